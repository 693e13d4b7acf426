"""The Compose files of a session: the project's own or those of this package, and the override that a session adds."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import pytest_llem
from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.schema import Service
from pytest_llem.executors.services import worker_arguments
from pytest_llem.worker.client import DEFAULT_SOCKET

PACKAGE = Path(pytest_llem.__file__).parent
PACKAGED = PACKAGE / "containers" / "docker-compose.yml"

OWN_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
"""What Compose itself looks for, in its order."""

OVERRIDE_NAMES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
)

INPUTS = "/llem/inputs"
"""Where a container finds what is mounted for it."""

LINKS_UP = 2
"""How many folders up a link may lead out of what is mounted: from a snapshot in the hub's cache to the blobs beside
all snapshots (huggingface_hub, "Understand caching")."""


def find(rootdir: Path, backends: Iterable[str]) -> list[Path]:
    """Return the project's own Compose files if they have a service for one of the backends, else the packaged one.

    A project may have a `docker-compose.yml` for something else altogether. One that cannot be read is its own:
    Compose then says what is wrong with it.
    """
    own = [next((rootdir / name for name in names if (rootdir / name).is_file()), None) for names in _NAMES]
    files = [path for path in own if path is not None]
    if own[0] is None:
        return [PACKAGED]
    declared = services(own[0])
    return files if declared is None or declared & set(backends) else [PACKAGED]


_NAMES = (OWN_NAMES, OVERRIDE_NAMES)


def own_environment(rootdir: Path) -> list[Path]:
    """Return the project's `.env`, if there is one: Compose takes it by itself only where no other file is named."""
    path = rootdir / ".env"
    return [path] if path.is_file() else []


def services(path: Path) -> set[str] | None:
    """Return the services that a Compose file declares; None if it cannot be read.

    Values are not looked at: Compose's own tags, such as `!reset`, are unknown to YAML.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return set(_mapping(_mapping(root).get("services")))


def undeclared(paths: Iterable[Path], wanted: Iterable[str]) -> list[str]:
    """Return which of the wanted services no file declares; none if that cannot be told."""
    declared = [services(path) for path in paths]
    return [name for name in wanted if all(found is not None and name not in found for found in declared)]


def _mapping(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """Return the keys and values of a mapping; nothing for what is none."""
    return {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def mounted(path: Path) -> str:
    """Return where a container finds a folder or file of the host."""
    whole = _with_linked(path)
    return str(Path(_target(whole), path.relative_to(whole)))


def _target(path: Path) -> str:
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return f"{INPUTS}/{digest}-{path.name}"


@functools.cache  # settled when the services come up, whatever is linked later
def _with_linked(path: Path) -> Path:
    """Return the folder to mount for a path, so that the links in it lead to something in a container too."""
    around = [folder for folder in path.parents[:LINKS_UP] if folder.name]  # never the whole disk
    targets = [Path(os.path.realpath(link)) for link in path.rglob("*") if link.is_symlink()]
    beside = [target for target in targets if any(map(target.is_relative_to, around))]
    return Path(os.path.commonpath([path, *beside]))


@dataclass(frozen=True, slots=True)
class Override:
    """What a session adds to its services.

    Attributes:
        labels: of each container.
        inputs: folders and files of the host that are mounted read-only.
    """

    labels: Mapping[str, str]
    inputs: Sequence[Path] = field(default_factory=tuple)

    def service(self, spec: BackendSpec, wanted: Service, gpus: Sequence[str] | None) -> dict[str, Any]:
        """Return the override of one backend's service, by the names of the Compose specification.

        Args:
            spec: of the backend.
            wanted: `services.<backend>` of the campaign.
            gpus: ids of the devices to reserve; None reserves what the file says, () nothing.
        """
        overridden: dict[str, Any] = {
            "labels": dict(self.labels),
            "entrypoint": ["python3", "-m", "pytest_llem.worker", "--resident", "--socket", DEFAULT_SOCKET],
            "command": worker_arguments(spec),
            "environment": dict(wanted.env),
            "volumes": [_bind(path) for path in dict.fromkeys(map(_with_linked, self.inputs))],
        }
        if wanted.image is not None:
            overridden["image"] = wanted.image
        if files := wanted.device_files():
            overridden["devices"] = files
        if gpus is not None:
            overridden["deploy"] = {"resources": {"reservations": {"devices": _reservation(gpus)}}}
        return overridden


class _Replace(list[Any]):
    """A list that replaces that of the file instead of being added to it (Compose's `!override`)."""


def _reservation(gpus: Sequence[str]) -> _Replace:
    if not gpus:
        return _Replace()
    return _Replace([{"driver": "nvidia", "device_ids": list(gpus), "capabilities": ["gpu"]}])


def _bind(path: Path) -> dict[str, Any]:
    return {"type": "bind", "source": str(path), "target": _target(path), "read_only": True}


class _Dumper(yaml.SafeDumper):
    """Writes YAML with Compose's own tags."""


_Dumper.add_representer(_Replace, lambda dumper, data: dumper.represent_sequence("!override", data))


def write(path: Path, services: Mapping[str, Mapping[str, Any]]) -> None:
    """Write an override file. `$` is doubled: Compose would take it for a variable."""
    text = yaml.dump(
        {"services": {name: dict(service) for name, service in services.items()}}, Dumper=_Dumper
    )
    path.write_text(text.replace("$", "$$"), encoding="utf-8")


def write_environment(path: Path, variables: Mapping[str, str]) -> None:
    """Write variables for Compose files, as Compose reads them: in single quotes nothing is expanded."""
    lines = [f"{name}='{_quoted(value)}'" for name, value in variables.items()]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    path.chmod(0o600)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
