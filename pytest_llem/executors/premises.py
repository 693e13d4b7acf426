"""What the rules of a campaign are told of the machine on which its experiments will run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from pytest_llem.campaign.host import Device, Host
from pytest_llem.campaign.hub_cache import cache_folder
from pytest_llem.campaign.schema import Service
from pytest_llem.executors import gpus
from pytest_llem.executors.compose.executor import ComposeExecutor
from pytest_llem.executors.gpus import Installed
from pytest_llem.executors.interpreter import absent
from pytest_llem.executors.local import LocalExecutor
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
    rootdir: Path,
    environ: Mapping[str, str],
) -> Host | None:
    """Return what is known of the machine; None if it is another one, or its driver does not answer.

    Args:
        here: the GPUs of this machine.
        placement: which of them each service works on.
        services: `services` of the campaign.
        backends: that are installed.
        executor: `local`, `compose`, or `auto`, which is not decided yet.
        rootdir: where a relative path to an interpreter starts.
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
    modules = {}
    if executor == LocalExecutor.name:
        modules = {name: _modules(services.get(name, Service()), rootdir) for name in chosen}
    return Host(devices, chosen, modules, cache_folder(environ))


def _engine_is_elsewhere(environ: Mapping[str, str]) -> bool:
    address = environ.get("DOCKER_HOST", "")
    is_local = not address or address.startswith(LOCAL_ADDRESSES)
    return not is_local or environ.get("DOCKER_CONTEXT", "default") != "default"


def _modules(service: Service, rootdir: Path) -> dict[str, bool]:
    """Return which modules a backend's interpreter can import; nothing of one that does not start."""
    try:
        missing = absent(service, rootdir, OPTIONAL_MODULES)
    except (OSError, subprocess.SubprocessError):  # a session that measures says so, and why
        return {}
    return {name: name not in missing for name in OPTIONAL_MODULES}
