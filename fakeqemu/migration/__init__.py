# SPDX-License-Identifier: MIT
"""Live migration: the life of one, in one page.

**Source.** `qmp_migrate` (qmp_cmds) hands over to `begin`: the address is parsed (channel), capabilities and
parameters have been checked when they were set (options), blockers and devices are asked (register, savevm.prepare).
The status is now `setup` (state); the reply goes out, and the task `mig/src/main` runs `Outgoing._run`:

    connect                    unix, tcp in the background; file, fd, exec before the reply
    header, configuration      stream/section
    START                      each live entry's save_setup: RAM lists its blocks and looks at the dirty bitmap
    active
      pass                     PART sections: RAM sends what is dirty (ram), devices what they have ready
      what is left?            an estimate each time, an exact look when that is low: MIGRATION_PASS
      bandwidth limit          windows of 100 ms; what is measured there gives the threshold and query-migrate's rates
    low enough                 less is left than the bandwidth moves within downtime-limit
    stop                       under the BQL: run state finish-migrate, handlers of devices, STOP
    pre-switchover, device     the first only with pause-before-switchover, until migrate-continue
    END                        the last of each live entry
    FULL                       all other state, described (stream/vmstate) or as captured; run state last (global_state)
    EOF, description           stream/vmdesc
    SHUT                       with a return path: the destination's word that its guest runs (return_path)
    completed                  run state postmigrate; entries clean up

**Pages** go where a sink puts them (page_sink): records of the stream, places in a file (mapped_ram), packets on channels of
their own (multifd, multifd_ram; the destination's half is multifd_recv), or both (multifd_file). Devices may send state on
such channels too (multifd_device_state).

**Destination.** `-incoming`, or `qmp_migrate_incoming`: `begin_incoming` listens, status `setup`. A connection starts
`mig/dst/main`: magic, header, configuration (configuration), then section by section (loadvm), each owner reading exactly
its own bytes, RAM among them (ram_load), commands between (load_commands). Then the guest is started or left as it
was there, status `completed`, and SHUT 0 goes back.

**Failing.** All ways lead to `giving_up.give_up`: the first error is kept, the guest goes on where it was stopped, devices
get their notice, the status ends as `failed` or `cancelled`. The destination's way is `Incoming.failed`; the process ends
there unless exit-on-error is off.

**Postcopy.** After `migrate-start-postcopy` the loop of passes ends in `postcopy_ram.PostcopySource.run` instead: the devices
go in one package, the guest runs on the other side (postcopy_load), its pages follow, those first that somebody waits for
(postcopy_faults, userfault, page_requests, blocktime), with postcopy-preempt over a second channel (postcopy_preempt,
postcopy_preempt_load). Multifd carries no pages then. A break then only pauses (postcopy_recover), until all is sent: without
the destination's last word the source fails, and its guest goes on as well, as with real QEMUs from 8.2 on.

**Background snapshot.** With that capability the guest is stopped for its devices alone; its memory is frozen, and the guest
goes on while the pages of that moment go, those first that it writes to (background_snapshot).

**COLO.** With x-colo the connection stays when all has come, and both guests run; the primary's changes go over from time to
time, until one of the two is told that it is alone (colo, colo_half, colo_primary, colo_secondary).

**A busy guest** makes passes that never end; with auto-converge it is slowed down until they do (cpu_throttle), with
dirty-limit each of its vCPUs is (system/dirtylimit). How fast it is can be measured without a migration (dirtyrate).

**Pages that only count** (`ram=model`): no page travels but real bytes, and time and counters are what they would have been
(ram_model, model_flow), so that an hour's migration of a terabyte is a few dozen steps.

**Versions.** What differs stands in rows of qapi/compat.py named `migration_*`. What a machine type of an old release has a later
one leave out are properties of QEMU's object `migration`: capabilities, parameters, and `Migration.settings` (state).

Reading order: state, register, stream (the package), savevm, ram, outgoing, loadvm, incoming, stats, options, channel, tls.
Not emulated yet: CPR; what needs it can be set, and a migration with it on is refused in plain words.

QEMU: migration/
"""
