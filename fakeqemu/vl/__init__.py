# SPDX-License-Identifier: MIT
"""QEMU's command line: from argv to a machine.

    location     where in the command line we are, and errors printed with it
    opts         QemuOpts: `key=value,...` checked against a group's parameters
    keyval       `key.sub.0=value,...` made a tree of strings
    text_visitor, json_option, objects, incoming, display_options   arguments that are QAPI types
    groups       the groups of parameters of this QEMU, from its profile
    options      every option: emulated, accepted without effect (why), or not emulated
    cmdline      the pass over argv: what each option says, remembered
    vl           the phases of a start, in QEMU's order: which error comes first is behaviour
    accel, machine_opts, globals, cpu_features, monitors, add_fd, log   the phases' own matters
    helptext     what `help` prints
    readconfig   -readconfig
    fake         -fake and the variable FAKEQEMU

QEMU: system/vl.c, util/qemu-option.c, util/keyval.c, util/qemu-config.c
"""
