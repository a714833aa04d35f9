# SPDX-License-Identifier: MIT
"""QMP commands of migration.

QEMU: migration/migration.c, migration/options.c
"""

from __future__ import annotations

from fakeqemu.error import DEVICE_NOT_ACTIVE, QemuError
from fakeqemu.migration import state as st
from fakeqemu.migration.stats import query_migrate
from fakeqemu.monitor.registry import qmp_command
from fakeqemu.qapi.qdict import as_inserted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


@qmp_command
def qmp_migrate(
    vm: Machine,
    *,
    uri: str | None = None,
    channels: list[dict[str, Any]] | None = None,
    resume: bool = False,
    detach: bool = True,  # noqa: ARG001 - without a meaning over QMP
    blk: bool = False,
    inc: bool = False,
) -> None:
    """Send the guest away; answered before it is on its way."""
    from fakeqemu.migration.begin import begin

    begin(vm, uri, channels, resume=resume, blocks=blk or inc)


@qmp_command
def qmp_migrate_incoming(
    vm: Machine, *, uri: str | None = None, channels: list[dict[str, Any]] | None = None, exit_on_error: bool = True
) -> None:  # fmt: skip
    """Listen for the guest that `-incoming defer` waits for."""
    from fakeqemu.migration import begin_incoming

    begin_incoming.begin(vm, uri, channels, exit_on_error=exit_on_error)


@qmp_command
def qmp_migrate_cancel(vm: Machine) -> None:
    """Give an outgoing migration up; never fails, whatever there is to cancel."""
    vm.migration.cancel()


@qmp_command
def qmp_migrate_continue(vm: Machine, *, state: str) -> None:
    """Go on from pre-switchover."""
    mig = vm.migration
    if mig.state != state:
        raise QemuError(f"Migration not in expected state: {mig.state}")
    mig.continue_event.set()


@qmp_command
def qmp_migrate_pause(vm: Machine) -> None:
    """Break a postcopy migration off."""
    mig = vm.migration
    running = (
        (st.POSTCOPY_ACTIVE, st.POSTCOPY_RECOVER) if vm.compat.migration_pause_in_recover else (st.POSTCOPY_ACTIVE,)
    )
    if mig.outgoing is not None and mig.state in running:
        mig.outgoing.channel_failed(QemuError("Postcopy migration is paused by the user"))
        return
    if mig.incoming is not None and mig.incoming.state in running:
        mig.incoming.break_off()
        return
    states = "postcopy-active or postcopy-recover" if vm.compat.migration_pause_in_recover else "postcopy-active"
    raise QemuError(f"migrate-pause is currently only supported during {states} state")


@qmp_command
def qmp_migrate_recover(vm: Machine, *, uri: str) -> None:
    """Listen again for a postcopy migration that was broken off."""
    incoming = vm.migration.incoming
    if incoming is not None and incoming.postcopy is not None and incoming.state == st.POSTCOPY_PAUSED:
        incoming.postcopy.recover(uri)
        return
    raise QemuError("Migrate recover can only be run when postcopy is paused.")


@qmp_command
def qmp_migrate_start_postcopy(vm: Machine) -> None:
    """Switch over to postcopy."""
    if not vm.migration.options.on("postcopy-ram"):
        raise QemuError("Enable postcopy with migrate_set_capability before the start of migration")
    if vm.migration.state == st.NONE:
        raise QemuError("Postcopy must be started after migration has been started")
    vm.migration.postcopy_wanted = True


@qmp_command
def qmp_migrate_set_capabilities(vm: Machine, *, capabilities: list[dict[str, Any]]) -> None:
    """Switch capabilities, all of the list or none."""
    vm.migration.options.set_capabilities(capabilities)


@qmp_command
def qmp_migrate_set_parameters(vm: Machine, parameters: dict[str, Any]) -> None:
    """Set parameters, all of them or none; those of a running migration take effect at once."""
    mig = vm.migration
    if mig.stats.catch_up is not None:
        mig.stats.catch_up()
    mig.options.set_parameters(parameters)
    if mig.outgoing is not None:
        mig.outgoing.kick()


@qmp_command
def qmp_query_migrate(vm: Machine) -> dict[str, Any]:
    """Status and counters, of whichever side this is."""
    return query_migrate(vm.migration)


@qmp_command
def qmp_query_migrate_capabilities(vm: Machine) -> list[dict[str, Any]]:
    """All capabilities and whether they are on."""
    return [{"state": state, "capability": name} for name, state in vm.migration.options.capabilities.items()]


@qmp_command
def qmp_query_migrate_parameters(vm: Machine) -> dict[str, Any]:
    """All parameters with their values."""
    shown: dict[str, Any] = as_inserted(vm.migration.options.parameters)
    return shown


@qmp_command
def qmp_query_migrationthreads(vm: Machine) -> list[dict[str, Any]]:
    """The threads of a running migration: those of the pages, and the one that leads."""
    return vm.migration_threads.query()


@qmp_command
def qmp_client_migrate_info(
    vm: Machine,  # noqa: ARG001 - no display here is one that follows its guest
    *,
    protocol: str,
    hostname: str,  # noqa: ARG001
    port: int | None = None,  # noqa: ARG001
    tls_port: int | None = None,  # noqa: ARG001
    cert_subject: str | None = None,  # noqa: ARG001
) -> None:
    """Tell a SPICE client where its guest goes."""
    if protocol != "spice":
        raise QemuError("Parameter 'protocol' expects 'spice'")
    raise QemuError("SPICE is not in use", DEVICE_NOT_ACTIVE)
