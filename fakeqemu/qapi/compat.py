# SPDX-License-Identifier: MIT
"""Compat: where releases of QEMU behave differently, one row each.

What a QEMU accepts and ships is data in `schemas/`. How it behaves is code, and where two releases differ
the code asks a *name*: `if vm.compat.multifd_flush_per_round:`. A name is a row here: what it means, which
value it took with which release, and what a user sees of it. A row holds a value, not only a switch.

A row is resolved by the version number of the profile, so a profile captured from a release we never saw takes
the newest value not younger than itself. An overlay profile sets values in its manifest, and
`-fake compat.NAME=VALUE` sets one for a run.

QEMU: hw_compat_* in hw/core/machine.c is the same idea for properties of machine types
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Version = tuple[int, ...]
    Value = bool | int | str


class CompatRow:
    """One difference between releases."""

    __slots__ = ("choices", "doc", "effect", "name", "values")

    def __init__(self, name: str, doc: str, values: tuple[tuple[Version, Value], ...], effect: str,
                 choices: tuple[str, ...] = ()) -> None:
        """`values`: (first version, value) in ascending order, the first for every version: `()`.

        `doc` says what the name means, `effect` what a user sees; `choices` are the words that a row of text takes.
        """
        self.name = name
        self.doc = doc
        self.values = values
        self.effect = effect
        self.choices = choices

    def resolve(self, version: Version) -> Value:
        """The value that a QEMU of this version has."""
        value = self.values[0][1]
        for since, candidate in self.values:
            if since <= version:
                value = candidate
        return value

    def parse(self, text: str) -> Value:
        """The value that a user wrote as `text`; raises ValueError, naming what the row takes."""
        default = self.values[0][1]
        if isinstance(default, bool):
            if text in ("on", "off"):
                return text == "on"
            raise ValueError(f"compat.{self.name} takes on or off, not '{text}'")
        if isinstance(default, int):
            try:
                return int(text, 0)
            except ValueError:
                raise ValueError(f"compat.{self.name} takes a number, not '{text}'") from None
        if self.choices and text not in self.choices:
            raise ValueError(f"compat.{self.name} takes {' or '.join(self.choices)}, not '{text}'")
        return text


class Compat:
    """The rows as one QEMU has them: `compat.NAME` is the value; AttributeError if there is no such row."""

    def __init__(self, version: Version, values: dict[str, Any] | None = None) -> None:
        """Rows resolved for `version`, those in `values` set; raises ValueError for a name that is no row."""
        self._version = version
        self._set = values or {}
        for name in self._set:
            if name not in ROWS_BY_NAME:
                raise ValueError(f"there is no compat row '{name}'")

    def __getattr__(self, name: str) -> Any:
        # Runs once a row: the value then stands in the instance.
        row = ROWS_BY_NAME.get(name)
        if row is None:
            raise AttributeError(f"there is no compat row '{name}'")
        value = self._set[name] if name in self._set else row.resolve(self._version)
        setattr(self, name, value)
        return value

    def override(self, texts: dict[str, str]) -> Compat:
        """Another Compat with rows set as `-fake compat.NAME=VALUE` writes them; raises ValueError."""
        values = dict(self._set)
        for text_name, text in texts.items():
            name = text_name.replace("-", "_").replace(".", "_")
            row = ROWS_BY_NAME.get(name)
            if row is None:
                raise ValueError(f"there is no compat row '{text_name}'")
            values[name] = row.parse(text)
        return Compat(self._version, values)

    def items(self) -> list[tuple[CompatRow, Value]]:
        """Every row with its value here, in the order of the table."""
        return [(row, getattr(self, row.name)) for row in ROWS]


# By subject, in the order of the alphabet: add yours where it belongs.
ROWS: tuple[CompatRow, ...] = (
    # --- chardev ---
    CompatRow(
        "chardev_client_names_peer",
        "A connected UNIX client is shown with the path that it connected to.",
        (((), False), ((10, 0), True)),
        "query-chardev says `unix:/path`, before `unix:`.",
    ),
    CompatRow(
        "chardev_in_use_names_chardev",
        "The error about a chardev that has a front end already speaks of a chardev.",
        (((), False), ((10, 0), True)),
        "`chardev 'ID' is already in use`, before `Device 'ID' is in use`.",
    ),
    # --- command line ---
    CompatRow(
        "global_refusal_names_option",
        "A -global that a device of the command line refuses is reported with that option.",
        (((), True), ((10,), False)),
        "`-device TYPE: can't apply global ...` up to 7.2, no option since.",
    ),
    CompatRow(
        "incoming_takes_channel",
        "-incoming takes a migration channel, as JSON or as keys, besides a URI.",
        (((), False), ((10,), True)),
        "What is no URI is read as a channel while options are parsed; before, the protocol was unknown at the end.",
    ),
    CompatRow(
        "kvm_missing_is_reported",
        "That /dev/kvm is not there is reported as other errors are, with program and option.",
        (((), False), ((10,), True)),
        "The line `Could not access KVM kernel module: ...` begins with the program's name.",
    ),
    CompatRow(
        "mon_option_deprecated",
        "-mon warns that it is deprecated: monitors are objects.",
        (((), False), ((11, 1), True)),
        "A warning on stderr for each -mon.",
    ),
    CompatRow(
        "negative_size_out_of_range",
        "A negative size on the command line is out of range, not malformed.",
        (((), False), ((10,), True)),
        "`-m -1` says that the value is out of range.",
    ),
    CompatRow(
        "readconfig_error_names_line",
        "A group or parameter of a -readconfig file that is refused is reported with its line.",
        (((), True), ((10,), False)),
        "`FILE:LINE: ...` up to 7.2; since then `-readconfig FILE: ...`.",
    ),
    # --- devices ---
    CompatRow(
        "cpu_unplug_asked_by_acpi",
        "device_del of a CPU asks the guest.",
        (((), False), ((11, 0), True)),
        "Before, it is refused: `acpi: device unplug request for not supported device type`.",
    ),
    CompatRow(
        "device_add_takes_json",
        "device_add hands the values of its arguments to the properties as they are, not as text.",
        (((), False), ((9, 2), True)),
        "Numbers in quotes are refused; before, every value was read as the command line reads it.",
    ),
    CompatRow(
        "device_cold_only_not_pluggable",
        "device_add of a type without hotplug is refused as if users could not make such devices.",
        (((), True), ((10, 0), False)),
        "`Parameter 'driver' expects a pluggable device type`, since 10.0 `Device 'VGA' does not support hotplugging`.",
    ),
    CompatRow(
        "device_full_bus_told",
        "Where the only buses of a kind are full, the error says so.",
        (((), False), ((11, 0), True)),
        "`A 'virtio-bus' bus was found but is full`, before `No 'virtio-bus' bus found for device ...`.",
    ),
    CompatRow(
        "device_hotplug_type_first",
        "Whether a type takes part in hotplug is asked before its bus is.",
        (((), False), ((10, 0), True)),
        "device_del of a VGA on pcie.0 blames the device, before the bus.",
    ),
    CompatRow(
        "device_id_checked",
        "device_add refuses ids that are no identifiers.",
        (((), False), ((10, 1), True)),
        "`Invalid qdev ID 'a b'`; up to 9.1 the options themselves refused them with other words.",
    ),
    CompatRow(
        "device_not_a_device_text",
        "What device_del says of an object that is no device.",
        (((), "a hotpluggable device"), ((10, 0), "a device")),
        "`/machine is not a hotpluggable device` or `/machine is not a device`.",
        ("a hotpluggable device", "a device"),
    ),
    # --- events ---
    CompatRow(
        "event_block_io_error_limited",
        "BLOCK_IO_ERROR is limited to one a second for each device.",
        (((), False), ((10, 0), True)),
        "A guest whose disk fails cannot flood the monitor.",
    ),
    # --- json ---
    CompatRow(
        "json_errors_at_once",
        "The JSON parser fails at the first token that does not fit, not when braces and brackets balance.",
        (((), False), ((11, 1), True)),
        "Broken input is answered at once, with line and column, and the rest of the message is dropped silently.",
    ),
    # --- descriptors ---
    CompatRow(
        "fdset_cleaned_when_running",
        "A descriptor taken out of a set is closed only when the guest runs.",
        (((), True), ((9, 1, 0), False)),
        "`query-fdsets` of a stopped machine goes on showing what `remove-fd` removed.",
    ),
    CompatRow(
        "fdset_dropped_with_monitor",
        "Sets that nobody uses go away when the last QMP client of a running machine hangs up.",
        (((), True), ((9, 1, 0), False)),
        "A client that comes back does not find its sets.",
    ),
    # --- machine ---
    CompatRow(
        "cpu_hotplug_refusal",
        "The words of query-hotpluggable-cpus on a machine without CPU hotplug.",
        (
            ((), "The feature 'query-hotpluggable-cpus' is not enabled"),
            ((9, 0, 0), "machine does not support hot-plugging CPUs"),
        ),
        "The error on microvm and none.",
    ),
    CompatRow(
        "cpu_numbers_unsigned",
        "family, model, stepping and tsc-frequency of a CPU are unsigned to their setters.",
        (((), False), ((10, 0, 0), True)),
        "`parameter 'family' can be at most 270`, before `Property .family doesn't take value ...`.",
    ),
    CompatRow(
        "cpu_vendor_text",
        "The words for a CPU vendor of the wrong length; VALUE stands for it.",
        (
            ((), "Property '.vendor' doesn't take value 'VALUE'"),
            ((9, 0, 0), "value of property 'vendor' must consist of exactly 12 characters"),
        ),
        "The error of `-cpu max,vendor=x`.",
    ),
    CompatRow(
        "cpus_fast_qom_type",
        "query-cpus-fast says which QOM type a CPU is.",
        (((), False), ((10, 1, 0), True)),
        "The member `qom-type` is there.",
    ),
    CompatRow(
        "info_cpus_model",
        "`info cpus` shows the model of each CPU.",
        (((), False), ((10, 1, 0), True)),
        "`model=qemu64` at the end of each line.",
    ),
    CompatRow(
        "iothread_poll_weight",
        "iothreads have the property poll-weight.",
        (((), False), ((11, 0, 0), True)),
        "query-iothreads and `info iothreads` show it.",
    ),
    CompatRow(
        "iothread_poll_factors",
        "What poll-grow and poll-shrink of an iothread are when nobody sets them.",
        (((), 0), ((11, 0, 0), 2)),
        "query-iothreads shows 2 and 2 instead of 0 and 0.",
    ),
    CompatRow(
        "machine_deprecation_warned",
        "Starting a deprecated versioned machine type prints a warning.",
        (((), False), ((9, 0, 0), True)),
        "A line on stderr when a machine type of an old release is chosen.",
    ),
    CompatRow(
        "x2apic_needed_text",
        "The words for more CPUs than APIC ids; a second line is a hint.",
        (
            ((), "current -smp configuration requires kernel irqchip and X2APIC API support."),
            ((9, 0, 0), "APIC ID 255 requires x2APIC feature in CPU\nTry x2apic=on in -cpu."),
        ),
        "The error of `-smp 256` and more. 10.0 aborts instead, which is not imitated.",
    ),
    CompatRow(
        "machine_firmware_word",
        "How the error about max-fw-size spells firmware the second time.",
        (((), "firwmare"), ((9, 0, 0), "firmware")),
        "A typing error of old releases.",
    ),
    CompatRow(
        "machine_error_names_type",
        "The error about an unknown machine type repeats its name.",
        (((), False), ((9, 0, 0), True)),
        '`unsupported machine type: "NAME"`, before only `unsupported machine type`.',
    ),
    CompatRow(
        "objects_container_late",
        "The container /objects is made when something looks for it.",
        (((), True), ((10, 0, 0), False)),
        "`qom-list /` of a machine without objects does not show it.",
    ),
    CompatRow(
        "boot_order_always",
        "The machine property boot has a member `order` also where the board knows no order.",
        (((), True), ((9, 0, 0), False)),
        '`{"order": ""}` instead of `{}`.',
    ),
    CompatRow(
        "secret_loaded",
        "secret objects have the property loaded.",
        (((), True), ((9, 0, 0), False)),
        "`qom-list` of a secret shows it.",
    ),
    CompatRow(
        "smp_levels",
        "Levels of the CPU topology besides sockets, cores and threads.",
        (((), "dies clusters"), ((8, 2, 0), "drawers books dies clusters"), ((9, 0, 0), "drawers books dies clusters modules")),
        "`-smp` takes them and the machine property `smp` shows them.",
    ),
    CompatRow(
        "status_singlestep",
        "query-status has the member `singlestep`.",
        (((), True), ((9, 0, 0), False)),
        "It was always false unless -singlestep was given.",
    ),
    CompatRow(
        "smp_unsupported_text",
        "The words for a topology level that a machine lacks.",
        (((), "not supported"), ((9, 0, 0), "> 1 not supported")),
        "`dies not supported by ...` became `dies > 1 not supported by ...`.",
    ),
    CompatRow(
        "smp_zero_refused",
        "A zero in `-smp` is an error.",
        (((), False), ((9, 0, 0), True)),
        "Before, a warning and a guess.",
    ),
    # --- memory ---
    CompatRow(
        "memdev_busy_text",
        "The words for a memory backend that cannot be deleted because it is in use; ID stands for its id.",
        (
            ((), "object 'ID' is in use, can not be deleted"),
            ((11, 0, 0), "Cannot delete host memory backend 'ID' which is mapped"),
        ),
        "The error of object-del.",
    ),
    CompatRow(
        "memdev_page_multiple",
        "The size of a memory-backend-file is a multiple of the page size, and a file too small is told by name.",
        (((), False), ((9, 0, 0), True)),
        "`memory size must be multiple of 4 KiB`; `... is too small for 'size' option ...`.",
    ),
    CompatRow(
        "memdev_readonly_creates",
        "A memory-backend-file with readonly=on makes a file that is not there.",
        (((), True), ((9, 0, 0), False)),
        "A new empty file, before; an error now.",
    ),
    CompatRow(
        "memory_load_transaction",
        "Loading the devices of an incoming migration is one memory transaction.",
        (((), False),),
        "The memory topology is rendered once per load, not once per device: a shorter downtime.",
    ),
    CompatRow(
        "memory_read_policy",
        "How a read of memory that is not there or not ready is treated while devices are loaded.",
        (((), "stale"),),
        "`stale` reads through the last rendered topology; `force` renders the pending one first, at its cost.",
        ("stale", "strict", "force", "rcu"),
    ),
    # --- migration ---
    CompatRow(
        "migration_capabilities_when_listening",
        "Multifd and postcopy-preempt cannot be set once the destination listens.",
        (((), False), ((8, 0), True)),
        "`Multifd must be set before incoming starts`.",
    ),
    CompatRow(
        "migration_colo_return_path",
        "The capability x-colo needs return-path.",
        (((), False), ((11, 0), True)),
        "`Capability 'x-colo' requires capability 'return-path'`.",
    ),
    CompatRow(
        "migration_continue_to_device_state",
        "A plain precopy passes through the status `device`.",
        (((), False), ((9, 0), True)),
        "A MIGRATION event `device` after STOP; before, only with pause-before-switchover.",
    ),
    CompatRow(
        "migration_error_chain",
        "The error-desc of a failed load says what went wrong.",
        (((), False), ((11, 0), True)),
        "`load of migration failed: Invalid argument: Unknown section ...`; before, only the errno's text, the rest on stderr.",
    ),
    CompatRow(
        "migration_exit_on_error",
        "A failed load can leave the process alive (exit-on-error=false), and its error-desc is kept.",
        (((), False), ((9, 1), True)),
        "7.2 always exits.",
    ),
    CompatRow(
        "migration_expected_downtime_exact",
        "The expected downtime is worked out at each exact look at what is left.",
        (((), False), ((11, 0), True)),
        "9223372036854775807 while no bandwidth is known and nothing is left; before, the downtime limit until pages got dirty.",
    ),
    CompatRow(
        "migration_failing_state",
        "The status `failing` comes before `failed`.",
        (((), False), ((11, 0), True)),
        "MIGRATION events failing, failed; RESUME between them where the guest had been stopped, before: after failed.",
    ),
    CompatRow(
        "migration_fd_file_refused",
        "`fd:` takes only sockets and pipes.",
        (((), False), ((10, 1), True)),
        "`fd: migration to a file is not supported. Use file: instead.`",
    ),
    CompatRow(
        "migration_file_transport",
        "A migration can go to a file: `file:PATH[,offset=SIZE]`.",
        (((), False), ((8, 2), True)),
        "Before, an address of no known kind.",
    ),
    CompatRow(
        "migration_final_sync_counted",
        "The look at the dirty bitmap after the guest has stopped is a pass of its own.",
        (((), True), ((11, 0), False)),
        "One more MIGRATION_PASS after STOP, one more in dirty-sync-count.",
    ),
    CompatRow(
        "migration_first_pass_event",
        "The first look at the dirty bitmap, in setup, is announced.",
        (((), True), ((11, 0), False)),
        "MIGRATION_PASS 1 between setup and active.",
    ),
    CompatRow(
        "migration_globalstate_suspended",
        "The section globalstate says whether the guest was suspended.",
        (((), False), ((9, 0), True)),
        "The run state is 32 bytes and two flags instead of 100 bytes.",
    ),
    CompatRow(
        "migration_hmp_compact",
        "The form of `info migrate`: compact, settings only with -a; or a line a counter, settings first.",
        (((), False), ((10, 1), True)),
        "`Status: active` or `Migration status: active`.",
    ),
    CompatRow(
        "migration_incoming_setup_first",
        "A destination enters `setup` before it looks at the address, and leaves it when that is bad.",
        (((), True), ((8, 2), False)),
        "An event MIGRATION setup even for `nosuch:`; another try is possible after a failed bind.",
    ),
    CompatRow(
        "migration_incoming_setup_status",
        "query-migrate of a destination that listens has a status.",
        (((), False), ((8, 2), True)),
        "`status: setup` beside socket-address.",
    ),
    CompatRow(
        "migration_inet_options_checked",
        "Options of a tcp address are taken by name, and unknown ones refused.",
        (((), False), ((10, 1), True)),
        "`Invalid parameter 'bogus'`; before, what is not known is passed over.",
    ),
    CompatRow(
        "migration_multifd_postcopy",
        "Multifd and postcopy-ram may be on together.",
        (((), True), ((8, 0), False), ((10, 1), True)),
        "`Postcopy is not yet compatible with multifd` where not.",
    ),
    CompatRow(
        "migration_option_words",
        "How a parameter out of range is refused.",
        (((), "parameter"), ((10, 2), "option")),
        "`Parameter 'downtime_limit' expects ...` or `Option downtime-limit expects ...`.",
        ("parameter", "option"),
    ),
    CompatRow(
        "migration_pause_in_recover",
        "migrate-pause also works in postcopy-recover.",
        (((), False), ((9, 1), True)),
        "`... only supported during postcopy-active or postcopy-recover state`.",
    ),
    CompatRow(
        "migration_peek_magic",
        "The destination looks at the first bytes of a connection before it takes it for the main one.",
        (((), False), ((10, 1), True)),
        "`unknown channel magic: N` on stderr, setup then failed without error-desc; before: active, failed.",
    ),
    CompatRow(
        "migration_pending_equal",
        "The threshold itself is low enough for an exact look at what is left.",
        (((), False), ((11, 0), True)),
        "A migration shorter than the first window still makes a second pass: MIGRATION_PASS 2 before STOP.",
    ),
    CompatRow(
        "migration_ram_skipped",
        "query-migrate counts skipped pages: none, ever.",
        (((), True), ((9, 1), False)),
        "ram.skipped.",
    ),
    CompatRow(
        "migration_return_path_errors",
        "Errors of the return path become error-desc.",
        (((), False), ((8, 2), True)),
        "Before, they are only printed on stderr, with `RP: ` in front.",
    ),
    CompatRow(
        "migration_save_errors_printed",
        "A section that cannot be sent is named on stderr.",
        (((), False), ((8, 0), True)),
        "`failed to save SaveStateEntry with id(name): 1(ram): -5`.",
    ),
    CompatRow(
        "migration_setup_error_words",
        "A channel that breaks during setup is worded as the RAM's error.",
        (((), False), ((9, 1), True)),
        "`ram_save_setup failed: Input/output error`.",
    ),
    CompatRow(
        "migration_switchover_start",
        "The source says with a command of its own that the last phase begins.",
        (((), False), ((10, 0), True)),
        "SWITCHOVER_START in the stream.",
    ),
    CompatRow(
        "migration_top_remaining",
        "query-migrate says what is left of all state, not only of RAM.",
        (((), False), ((11, 0), True)),
        "`remaining` beside `ram`.",
    ),
    CompatRow(
        "migration_transferred_all",
        "ram.transferred counts all bytes of the main channel.",
        (((), False), ((8, 1), True)),
        "Before, only those of page records: precopy, downtime, postcopy and multifd bytes.",
    ),
    CompatRow(
        "migration_uri_words",
        "How an address of no known kind is refused, and when.",
        (((), "late"), ((8, 2), "early")),
        "`Parameter 'uri' expects a valid migration protocol` with status failed, or `unknown migration protocol: X` with no "
        "change of status.",
        ("late", "early"),
    ),
    CompatRow(
        "migration_vmdesc_configuration",
        "The description at the end of a stream includes the configuration section.",
        (((), False), ((8, 1), True)),
        "`configuration` in the JSON text.",
    ),
    CompatRow(
        "migration_multifd_flush_word",
        "The RAM section has a word that asks for a flush of the multifd channels.",
        (((), False), ((8, 1), True)),
        "Before, `Unknown combination of migration flags: 0x200`.",
    ),
    CompatRow(
        "migration_multifd_levels_settable",
        "migrate-set-parameters takes multifd-zlib-level and multifd-zstd-level.",
        (((), False), ((8, 0), True)),
        "Before, it passes over them: they keep their values, whatever was asked.",
    ),
    CompatRow(
        "pci_port_has_one_slot",
        "Behind a PCI Express port every function is one of slot 0.",
        (((), False), ((8, 1), True)),
        "A second device plugged in behind a port while the machine runs is refused; other slots are warned of.",
    ),
    CompatRow(
        "migration_zero_page_fill",
        "What a zero page record may fill a page with.",
        (((), "any"), ((8, 2), "zero")),
        "`Found a zero page with value N`; before, the page is filled with it.",
        ("any", "zero"),
    ),
    # --- vfio ---
    CompatRow(
        "vfio_fd_error_object",
        "The property `fd` speaks of an object, not of a remote object.",
        (((), False), ((11, 1), True)),
        "`Could not parse object fd NAME:...`, before `Could not parse remote object fd NAME:...`.",
    ),
    CompatRow(
        "vfio_group_open_text",
        "How a group node that cannot be opened is named.",
        (((), "failed to open {}"), ((10, 0), "Could not open '{}'")),
        "`failed to open /dev/vfio/12: ...` or `Could not open '/dev/vfio/12': ...`.",
        ("failed to open {}", "Could not open '{}'"),
    ),
    CompatRow(
        "vfio_init_failed_text",
        "The blocker of a device that cannot migrate names the step that failed.",
        (((), False), ((11, 1), True)),
        "`NAME: VFIO migration init failed: migration is not supported in kernel: ...`, before `NAME: VFIO migration is not "
        "supported in kernel`.",
    ),
    CompatRow(
        "vfio_large_ram_check",
        "Migration without dirty tracking is refused when the container's bitmap cannot describe all of RAM.",
        (((), False), ((11, 1), True)),
        "`Migration is currently not supported with large memory VM due to ...` with enable-migration=on.",
    ),
    CompatRow(
        "vfio_launch_us",
        "How long starting the thread of one parallel transition takes, in microseconds.",
        (((), 0),),
        "Stopping N devices side by side takes N times that longer.",
    ),
    CompatRow(
        "vfio_migration_v2",
        "VFIO devices migrate by the kernel's protocol 2.",
        (((), False), ((8, 0), True)),
        "Where not, every VFIO device blocks migration: `VFIO device doesn't support migration` (protocol 1 is not modelled).",
    ),
    CompatRow(
        "vfio_p2p_prepare_event",
        "VFIO_MIGRATION tells that a device is about to be asked for pre-copy-p2p.",
        (((), False), ((11, 1), True)),
        "The state `pre-copy-p2p-prepare` in the event.",
    ),
    CompatRow(
        "vfio_parallel_states",
        "vfio-pci has the property x-migration-parallel-states: devices of one depth change state side by side.",
        (((), False),),
        "Stopping N devices takes as long as the slowest, not as long as all together; in `next` only.",
    ),
    CompatRow(
        "vfio_pending_split",
        "What a VFIO device still has to send counts apart for pre-copy and for the stop.",
        (((), False), ((11, 1), True)),
        "Part of `remaining`; before, the whole size of the device counted as pre-copy data.",
    ),
    CompatRow(
        "vfio_thread_names",
        "What the thread of one device's transition is called; `_prepare` follows for the first of the two.",
        (((), "vfio_vmstate_change"),),
        "Names of tasks in traces; review of the series asks for `vfio_vm_state_change`.",
        ("vfio_vmstate_change", "vfio_vm_state_change"),
    ),
    # --- threads ---
    CompatRow(
        "threads_named",
        "Threads have names even without -name debug-threads=on.",
        (((), False), ((11, 1), True)),
        "`CPU 0/TCG` in /proc/PID/task/TID/comm.",
    ),
)

ROWS_BY_NAME: dict[str, CompatRow] = {row.name: row for row in ROWS}
