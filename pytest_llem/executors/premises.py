"""What the rules of a campaign are told of the machine on which its experiments will run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping

from pytest_llem.campaign.host import Device, Host
from pytest_llem.campaign.schema import Service
from pytest_llem.executors import gpus
from pytest_llem.executors.compose.executor import ComposeExecutor
from pytest_llem.executors.gpus import Installed
from pytest_llem.executors.placement import Placement

OPTIONAL_MODULES = ("flash_attn", "kernels")
"""Modules that an engine needs for some parameters only."""

LOCAL_ADDRESSES = ("unix://", "fd://", "npipe://")
"""What the address of a Docker engine on this machine begins with."""


def host_of(
    here: Installed,
    placement: Placement,
    services: Mapping[str, Service],
    backends: Iterable[str],
    *,
    executor: str,
    environ: Mapping[str, str],
) -> Host | None:
    """Return what is known of the machine; None if it is another one, or its driver does not answer.

    Args:
        here: the GPUs of this machine.
        placement: which of them each service works on.
        services: `services` of the campaign.
        backends: that are installed.
        executor: `local`, `compose`, or `auto`, which is not decided yet.
        environ: of the session.
    """
    if executor == ComposeExecutor.name and _engine_is_elsewhere(environ):
        return None
    if not here.gpus and here.problems:
        return None
    devices = gpus.devices(here)
    by_uuid = {device.uuid: device for device in devices}
    chosen = {
        name: tuple(by_uuid.get(uuid, Device(None, uuid)) for uuid in placement.of(name).uuids)
        for name in backends
    }
    own = [name for name in chosen if executor == "local" and not services.get(name, Service()).python]
    return Host(devices, chosen, {name: _modules() for name in own})


def _engine_is_elsewhere(environ: Mapping[str, str]) -> bool:
    address = environ.get("DOCKER_HOST", "")
    is_local = not address or address.startswith(LOCAL_ADDRESSES)
    return not is_local or environ.get("DOCKER_CONTEXT", "default") != "default"


def _modules() -> dict[str, bool]:
    """Return which modules this interpreter can import: it is that of engines without one of their own."""
    return {name: importlib.util.find_spec(name) is not None for name in OPTIONAL_MODULES}
