# SPDX-License-Identifier: MIT
"""`info migrate` and its kin, for people.

11.1 prints a compact form, and global settings only with -a; older releases print settings first, then a line a counter.

QEMU: migration/migration-hmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.migration.stats import query_migrate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

#: settings of the migration object that are shown, as (label, property, of which capability of the release)
_GLOBALS = ("store-global-state", "only-migratable", "send-configuration", "send-section-footer")
_LATER_GLOBALS = ("decompress-error-check", "send-switchover-start")
#: QEMU's order of parameters here -> what follows the value
_PARAMETERS = {
    "announce-initial": " ms",
    "announce-max": " ms",
    "announce-rounds": "",
    "announce-step": " ms",
    "compress-level": "",
    "compress-threads": "",
    "compress-wait-thread": "",
    "decompress-threads": "",
    "throttle-trigger-threshold": "",
    "cpu-throttle-initial": "",
    "cpu-throttle-increment": "",
    "cpu-throttle-tailslow": "",
    "max-cpu-throttle": "",
    "tls-creds": "",
    "tls-hostname": "",
    "tls-authz": "",
    "max-bandwidth": " bytes/second",
    "avail-switchover-bandwidth": " bytes/second",
    "max-postcopy-bandwidth": " bytes/second",
    "downtime-limit": " ms",
    "x-checkpoint-delay": " ms",
    "block-incremental": "",
    "multifd-channels": "",
    "multifd-compression": "",
    "zero-page-detection": "",
    "xbzrle-cache-size": " bytes",
    "block-bitmap-mapping": "",
    "x-vcpu-dirty-limit-period": " ms",
    "vcpu-dirty-limit": " MB/s",
    "mode": "",
    "direct-io": "",
    "x-rdma-chunk-size": " bytes",
}
#: older releases print these late, and one without its unit
_LATE_IN_OLD = ("max-postcopy-bandwidth", "tls-authz")


def info_migrate(vm: Machine, flags: list[str] | None = None) -> str:
    """The text of `info migrate` (`-a`: with settings), lines ending in a newline."""
    info = query_migrate(vm.migration)
    if not vm.compat.migration_hmp_compact:
        return _old_info(vm, info)
    text = _compact_info(info)
    if flags and "a" in "".join(flags):
        text += "Globals:\n" + "".join(f"  {line}\n" for line in _global_lines(vm))
        if "postcopy-blocktime" in info:
            from fakeqemu.migration.blocktime import compact_text

            text += compact_text(info)
        if "xbzrle-cache" in info:
            text += _compact_xbzrle(info["xbzrle-cache"])
        if "cpu-throttle-percentage" in info:
            text += f"CPU Throttle (%): {info['cpu-throttle-percentage']}\n"
        if "dirty-limit-throttle-time-per-round" in info:
            text += f"Dirty-limit Throttle (us): {info['dirty-limit-throttle-time-per-round']}\n"
            text += f"Dirty-limit Ring Full (us): {info['dirty-limit-ring-full-time']}\n"
    return text


def _global_lines(vm: Machine) -> list[str]:
    settings = vm.migration.settings
    lines = []
    for name in (*_GLOBALS, *_LATER_GLOBALS):
        value = vm.only_migratable if name == "only-migratable" else settings.get(name)
        if value is not None:
            lines.append(f"{name}: {_on_off(value)}")
    lines.append(f"clear-bitmap-shift: {settings.get('x-clear-bitmap-shift', 18)}")
    return lines


def _on_off(value: Any) -> str:
    return "on" if value else "off"


def _blocked(info: dict[str, Any]) -> str:
    reasons = info.get("blocked-reasons")
    if not reasons:
        return ""
    return "Outgoing migration blocked:\n" + "".join(f"  {reason}\n" for reason in reasons)


def _status(info: dict[str, Any], *with_reason: str) -> str:
    """The status; behind it, if it is one of these, what went wrong."""
    reason = f" ({info['error-desc']})" if info["status"] in with_reason and "error-desc" in info else ""
    return f"{info['status']}{reason}\n"


def _sockets(info: dict[str, Any], label: str) -> str:
    addresses = info.get("socket-address")
    if not addresses:
        return ""
    return f"{label}: [\n" + "".join(f"\t{address_text(one)}\n" for one in addresses) + "]\n"


def address_text(address: dict[str, Any]) -> str:
    """A socket address as people write it."""
    if address["type"] == "unix":
        return f"unix:{address['path']}"
    if address["type"] == "inet":
        return f"tcp:{address['host']}:{address['port']}"
    return f"{address['type']}:{address.get('str', '')}"


# --- 11.1 -----------------------------------------------------------------------------------------------


def _compact_info(info: dict[str, Any]) -> str:
    text = _blocked(info)
    if "status" not in info:
        return text + _sockets(info, "Sockets")
    text += f"Status: \t\t{_status(info, 'failed', 'postcopy-paused')}"
    if "total-time" in info:
        times = f"total={info['total-time']}"
        for label, name in (("setup", "setup-time"), ("exp_down", "expected-downtime"), ("down", "downtime")):
            if name in info:
                times += f", {label}={info[name]}"
        text += f"Time (ms): \t\t{times}\n"
    if "remaining" in info:
        text += f"Remaining: \t\t{size_text(info['remaining'])}\n"
    text += _sockets(info, "Sockets")
    if "ram" in info:
        text += _compact_ram(info, info["ram"])
    return text


def _compact_ram(info: dict[str, Any], ram: dict[str, Any]) -> str:
    channels = ", ".join(f"{label}={size_text(ram[f'{label}-bytes'])}" for label in ("precopy", "multifd", "postcopy"))
    if "vfio" in info:
        channels += f", vfio={size_text(info['vfio']['transferred'])}"
    rates = f"transfer={ram['pages-per-second']}"
    if ram["dirty-pages-rate"]:
        rates += f", dirty={ram['dirty-pages-rate']}"
    others = f"dirty_syncs={ram['dirty-sync-count']}"
    return (
        "RAM info:\n"
        f"  Throughput (Mbps): \t{ram['mbps']:.2f}\n"
        f"  Sizes: \t\tpagesize={size_text(ram['page-size'])}, total={size_text(ram['total'])}\n"
        f"  Transfers: \t\ttransferred={size_text(ram['transferred'])}, remain={size_text(ram['remaining'])}\n"
        f"    Channels: \t\t{channels}\n"
        f"    Page Types: \tnormal={ram['normal']}, zero={ram['duplicate']}\n"
        f"  Page Rates (pps): \t{rates}\n"
        f"  Others: \t\t{others}\n"
    )


def _compact_xbzrle(cache: dict[str, Any]) -> str:
    return (
        f"XBZRLE: size={cache['cache-size']}, transferred={cache['bytes']}, pages={cache['pages']}, "
        f"miss={cache['cache-miss']}\n"
        f"  miss_rate={cache['cache-miss-rate']:.2f}, encode_rate={cache['encoding-rate']:.2f}, "
        f"overflow={cache['overflow']}\n"
    )


def size_text(size: int) -> str:
    """A size with three digits and a binary unit, as QEMU's size_to_str: 8 MiB, 7.88 MiB, 0 B."""
    units = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
    # A thousand of a unit already is the next one.
    step = 0
    while step < len(units) - 1 and size / (1 << 10 * step) >= 1000:
        step += 1
    return f"{size / (1 << 10 * step):.3g} {units[step]}B"


# --- before ---------------------------------------------------------------------------------------------


def _old_info(vm: Machine, info: dict[str, Any]) -> str:
    text = _blocked(info) + "globals:\n" + "".join(f"{line}\n" for line in _global_lines(vm))
    if "status" in info:
        text += f"Migration status: {_status(info, 'failed')}total time: {info.get('total-time', 0)} ms\n"
        for label, name in (
            ("expected downtime", "expected-downtime"), ("downtime", "downtime"), ("setup", "setup-time"),
        ):  # fmt: skip
            if name in info:
                text += f"{label}: {info[name]} ms\n"
    if "ram" in info:
        text += _old_ram(info["ram"])
    if "xbzrle-cache" in info:
        text += _old_xbzrle(info["xbzrle-cache"])
    if "cpu-throttle-percentage" in info:
        text += f"cpu throttle percentage: {info['cpu-throttle-percentage']}\n"
    if "dirty-limit-throttle-time-per-round" in info:
        text += f"dirty-limit throttle time: {info['dirty-limit-throttle-time-per-round']} us\n"
        text += f"dirty-limit ring full time: {info['dirty-limit-ring-full-time']} us\n"
    text += _sockets(info, "socket address")
    if "vfio" in info:
        text += f"vfio device transferred: {info['vfio']['transferred'] >> 10} kbytes\n"
    if "postcopy-blocktime" in info:
        from fakeqemu.migration.blocktime import old_text

        text += old_text(info)
    return text


def _old_ram(ram: dict[str, Any]) -> str:
    lines = [
        f"transferred ram: {ram['transferred'] >> 10} kbytes",
        f"throughput: {ram['mbps']:.2f} mbps",
        f"remaining ram: {ram['remaining'] >> 10} kbytes",
        f"total ram: {ram['total'] >> 10} kbytes",
        f"duplicate: {ram['duplicate']} pages",
        *([f"skipped: {ram['skipped']} pages"] if "skipped" in ram else []),
        f"normal: {ram['normal']} pages",
        f"normal bytes: {ram['normal-bytes'] >> 10} kbytes",
        f"dirty sync count: {ram['dirty-sync-count']}",
        f"page size: {ram['page-size'] >> 10} kbytes",
        f"multifd bytes: {ram['multifd-bytes'] >> 10} kbytes",
        f"pages-per-second: {ram['pages-per-second']}",
    ]
    if ram["dirty-pages-rate"]:
        lines.append(f"dirty pages rate: {ram['dirty-pages-rate']} pages")
    for label in ("precopy", "downtime", "postcopy"):
        if ram[f"{label}-bytes"]:
            lines.append(f"{label} ram: {ram[f'{label}-bytes'] >> 10} kbytes")
    return "".join(f"{line}\n" for line in lines)


def _old_xbzrle(cache: dict[str, Any]) -> str:
    lines = [
        f"cache size: {cache['cache-size']} bytes",
        f"xbzrle transferred: {cache['bytes'] >> 10} kbytes",
        f"xbzrle pages: {cache['pages']} pages",
        f"xbzrle cache miss: {cache['cache-miss']} pages",
        f"xbzrle cache miss rate: {cache['cache-miss-rate']:.2f}",
        f"xbzrle encoding rate: {cache['encoding-rate']:.2f}",
        f"xbzrle overflow: {cache['overflow']}",
    ]
    return "".join(f"{line}\n" for line in lines)


# --- options --------------------------------------------------------------------------------------------


def info_migrate_capabilities(vm: Machine, flags: list[str] | None = None) -> str:  # noqa: ARG001
    """The text of `info migrate_capabilities`."""
    return "".join(f"{name}: {_on_off(state)}\n" for name, state in vm.migration.options.capabilities.items())


def info_migrate_parameters(vm: Machine, flags: list[str] | None = None) -> str:  # noqa: ARG001
    """The text of `info migrate_parameters`."""
    values = vm.migration.options.parameters
    old = not vm.compat.migration_hmp_compact
    names = list(_PARAMETERS)
    if old:
        names = [name for name in names if name not in _LATE_IN_OLD]
        at = names.index("xbzrle-cache-size") + 1
        names[at:at] = _LATE_IN_OLD
    lines = []
    for name in names:
        if name not in values:
            continue
        value = values[name]
        if name == "block-bitmap-mapping":
            lines += _bitmap_lines(value)
            continue
        if isinstance(value, bool):
            shown = _on_off(value)
        else:
            shown = f"'{value}'" if name.startswith("tls-") else str(value)
        unit = "" if old and name == "max-postcopy-bandwidth" else _PARAMETERS[name]
        lines.append(f"{name}: {shown}{unit}")
    if "cpr-exec-command" in values:
        lines.append("cpr-exec-command:" + "".join(f" {word}" for word in values["cpr-exec-command"]))
    return "".join(f"{line}\n" for line in lines)


def _bitmap_lines(mapping: list[dict[str, Any]]) -> list[str]:
    lines = ["block-bitmap-mapping:"]
    for node in mapping:
        lines.append(f"  '{node['node-name']}' -> '{node['alias']}'")
        lines += [f"    '{bitmap['name']}' -> '{bitmap['alias']}'" for bitmap in node["bitmaps"]]
    return lines
