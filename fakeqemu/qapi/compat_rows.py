# SPDX-License-Identifier: MIT
"""Compat rows of all but migration: monitors, command line, machine, devices. By subject, in the order of the alphabet."""

from __future__ import annotations

from fakeqemu.qapi.compat_row import CompatRow

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
    # --- descriptors ---
    CompatRow(
        "fdset_cleaned_when_running",
        "A descriptor taken out of a set is closed only when the guest runs.",
        (((), True), ((9, 1, 0), False)),
        "`query-fdsets` of a stopped machine goes on showing what `remove-fd` removed.",
    ),
    CompatRow(
        "fdset_direct_io_matched",
        "A descriptor of a set is taken for direct I/O if it was opened for that, and for nothing else then.",
        (((), False), ((9, 1), True)),
        "`Failed to find file descriptor with matching flags=0x4000`.",
    ),
    CompatRow(
        "fdset_dropped_with_monitor",
        "Sets that nobody uses go away when the last QMP client of a running machine hangs up.",
        (((), True), ((9, 1, 0), False)),
        "A client that comes back does not find its sets.",
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
        "device_add_migrating_first",
        "device_add asks whether a migration runs before it looks whether the bus takes part in hotplug.",
        (((), False), ((10, 0), True)),
        "`device_add not allowed while migrating` for a device on pcie.0.",
    ),
    CompatRow(
        "trace_events_of_cpus",
        "The human monitor switches trace events of one CPU.",
        (((), True), ((9, 2), False)),
        "`trace-event guest_cpu_enter on 7`: `invalid vCPU index 7`, later the number is not looked at.",
    ),
    CompatRow(
        "trace_stamp_of_messages",
        "With -msg timestamp=on a line of a trace event begins as other messages do, with the date.",
        (((), False), ((10, 1), True)),
        "`2026-11-21T15:01:50.166014Z migrate_set_state ...`, before `4711@1795273310.166014:migrate_set_state ...`.",
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
    CompatRow(
        "pci_port_has_one_slot",
        "Behind a PCI Express port every function is one of slot 0.",
        (((), False), ((8, 1), True)),
        "A second device plugged in behind a port while the machine runs is refused; other slots are warned of.",
    ),
    # --- displays ---
    CompatRow(
        "add_client_wants_socket",
        "add_client looks whether the descriptor is a socket before anything else.",
        (((), False), ((10, 0, 0), True)),
        "`parameter @fdname must name a socket`.",
    ),
    CompatRow(
        "audiodev_twice_refused",
        "Two -audiodev with the same id end the start.",
        (((), False), ((11, 0, 0), True)),
        "`attempt to add duplicate property 'ID' to object (type 'container')`.",
    ),
    CompatRow(
        "audiodev_word",
        "How the error about an unknown audio back end calls it.",
        (((), "Audiodev"), ((10, 0, 0), "audiodev")),
        "`audiodev 'ID' not found`.",
    ),
    CompatRow(
        "hmp_change_vnc_error_marked",
        "What is wrong with the human monitor's `change vnc` is printed as other errors are.",
        (((), False), ((10, 0, 0), True)),
        "`Error: Expected 'password' after 'vnc'`.",
    ),
    CompatRow(
        "tls_reload_words",
        "What is said of TLS credentials that cannot be read again.",
        (((), "doesn't support to reload TLS credential"), ((11, 0, 0), "does not support reloading credentials")),
        "The error of display-reload with tls-certs.",
    ),
    CompatRow(
        "vnc_audio_always",
        "A VNC client can have sound whether or not an audio back end was asked for, or it has announced that.",
        (((), True), ((10, 0, 0), False)),
        "The server confirms the pseudo encoding of sound, and takes messages about it.",
    ),
    CompatRow(
        "vnc_connected_words",
        "What is said to set_password of VNC with connected=fail or disconnect.",
        (
            ((), "Invalid parameter 'connected'"),
            ((10, 0, 0), "parameter 'connected' must be 'keep' when 'protocol' is 'vnc'"),
        ),
        "The error of set_password.",
    ),
    CompatRow(
        "vnc_default_console_bound",
        "A VNC display without display= belongs to the first console from the start.",
        (((), False), ((10, 0, 0), True)),
        "query-vnc-servers tells the `display` where the adapter has an id.",
    ),
    CompatRow(
        "vnc_expiry_checked",
        "expire_password of VNC refuses a time that is no number.",
        (((), False), ((10, 0, 0), True)),
        "`Parameter 'time' doesn't take value 'X'`; before, the password expires at once.",
    ),
    CompatRow(
        "vnc_ids_assigned_late",
        "A -vnc without id= gets its name when the display is opened, not when the option is read.",
        (((), False), ((10, 0, 0), True)),
        "`-vnc none -vnc none,id=default` is no duplicate.",
    ),
    CompatRow(
        "vnc_password_errors_tell_why",
        "Why the password of VNC cannot be set is said.",
        (((), False), ((11, 0, 0), True)),
        "`No VNC display is present`, `VNC password authentication is disabled`; before, `Could not set password`.",
    ),
    CompatRow(
        "vnc_socket_unlinked_at_exit",
        "The UNIX sockets of VNC displays are unlinked when the process ends.",
        (((), False), ((11, 0, 0), True)),
        "Before, they stay.",
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
    # --- machine ---
    CompatRow(
        "boot_order_always",
        "The machine property boot has a member `order` also where the board knows no order.",
        (((), True), ((9, 0, 0), False)),
        '`{"order": ""}` instead of `{}`.',
    ),
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
        "firmware_pages",
        "How many of the 64 pages of the board's firmware have content: they travel as such.",
        (((), 46), ((10, 0), 47), ((11, 0), 44)),
        "ram.normal of a guest that has not run; in what is sent first, pages rather than zeroes.",
    ),
    CompatRow(
        "info_cpus_model",
        "`info cpus` shows the model of each CPU.",
        (((), False), ((10, 1, 0), True)),
        "`model=qemu64` at the end of each line.",
    ),
    CompatRow(
        "iothread_poll_factors",
        "What poll-grow and poll-shrink of an iothread are when nobody sets them.",
        (((), 0), ((11, 0, 0), 2)),
        "query-iothreads shows 2 and 2 instead of 0 and 0.",
    ),
    CompatRow(
        "iothread_poll_weight",
        "iothreads have the property poll-weight.",
        (((), False), ((11, 0, 0), True)),
        "query-iothreads and `info iothreads` show it.",
    ),
    CompatRow(
        "machine_deprecation_warned",
        "Starting a deprecated versioned machine type prints a warning.",
        (((), False), ((9, 0, 0), True)),
        "A line on stderr when a machine type of an old release is chosen.",
    ),
    CompatRow(
        "machine_error_names_type",
        "The error about an unknown machine type repeats its name.",
        (((), False), ((9, 0, 0), True)),
        '`unsupported machine type: "NAME"`, before only `unsupported machine type`.',
    ),
    CompatRow(
        "machine_firmware_word",
        "How the error about max-fw-size spells firmware the second time.",
        (((), "firwmare"), ((9, 0, 0), "firmware")),
        "A typing error of old releases.",
    ),
    CompatRow(
        "objects_container_late",
        "The container /objects is made when something looks for it.",
        (((), True), ((10, 0, 0), False)),
        "`qom-list /` of a machine without objects does not show it.",
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
        (
            ((), "dies clusters"),
            ((8, 2, 0), "drawers books dies clusters"),
            ((9, 0, 0), "drawers books dies clusters modules"),
        ),
        "`-smp` takes them and the machine property `smp` shows them.",
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
    CompatRow(
        "status_singlestep",
        "query-status has the member `singlestep`.",
        (((), True), ((9, 0, 0), False)),
        "It was always false unless -singlestep was given.",
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
    # --- threads ---
    CompatRow(
        "threads_named",
        "Threads have names even without -name debug-threads=on.",
        (((), False), ((11, 1), True)),
        "`CPU 0/TCG` in /proc/PID/task/TID/comm.",
    ),
    CompatRow(
        "dirty_limit_set_told",
        "The human monitor's set_vcpu_dirty_limit says where to look at the limits.",
        (((), True), ((8, 1), False)),
        "`[Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]`; since, it says nothing.",
    ),
    CompatRow(
        "dirty_rate_fractions",
        "A dirty rate is worked out before it is brought down to whole MB.",
        (((), False), ((8, 2), True)),
        "3 MB/s for 1.5 MiB in half a second; before, 2 MB/s.",
    ),
)
