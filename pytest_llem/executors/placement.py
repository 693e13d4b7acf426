"""Which GPUs each service of a session works on, and which of them each configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from pytest_llem.campaign.schema import Service
from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.gpu_choice import GpuChoice, choose_gpus, choose_named, together
from pytest_llem.executors.gpus import Installed
from pytest_llem.records import Configuration

Asked = tuple[str, tuple[int | str, ...]]
"""A backend, and `gpus` as configurations of it have it."""


class Placement(NamedTuple):
    """The GPUs of a session, of the services that have others, and of the configurations that name some.

    Attributes:
        session: what `--campaign-gpus`, the environment or the machine say.
        own: `services.<backend>.devices`, where that names GPUs and no option overrules it; else all that the
            configurations of a backend name, where nobody else named any.
        configured: by what is asked for, the UUIDs.
        problems: likewise, why it cannot be had.
    """

    session: GpuChoice
    own: Mapping[str, GpuChoice]
    configured: Mapping[Asked, tuple[str, ...]] = {}
    problems: Mapping[Asked, str] = {}

    def of(self, backend: str) -> GpuChoice:
        """Return the GPUs of a backend's service."""
        return self.own.get(backend, self.session)

    def uuids(self, backends: Iterable[str]) -> list[str]:
        """Return all GPUs that these backends work on."""
        return sorted({uuid for backend in backends for uuid in self.of(backend).uuids})

    def devices(self, configuration: Configuration) -> tuple[str, ...] | None:
        """Return the GPUs that a configuration names; None: all of its service."""
        asked = _asked(configuration)
        return self.configured[asked] if asked else None

    def problems_of(self, configurations: Iterable[Configuration]) -> list[str]:
        """Return why configurations cannot have their GPUs, a sentence a cause."""
        asked = dict.fromkeys(filter(None, map(_asked, configurations)))
        return [self.problems[one] for one in asked if one in self.problems]


def place(
    asked: str | None,
    services: Mapping[str, Service],
    environ: Mapping[str, str],
    here: Installed,
    configurations: Collection[Configuration] = (),
) -> Placement:
    """Return which GPUs a session's services and configurations work on.

    Args:
        asked: `--campaign-gpus`; it wins over the campaign.
        services: `services` of the campaign.
        environ: of the session.
        here: the GPUs of this machine.
        configurations: of the campaign. The GPUs that one names are some of its service's.

    Raises:
        ExecutorError: a GPU is named that this machine does not have, by others than a configuration.
    """
    session = choose_gpus(asked, environ, here)
    named = {name: ",".join(service.gpus()) for name, service in services.items() if asked is None}
    own = {
        name: choose_gpus(gpus, environ, here, f"services.{name}.devices")
        for name, gpus in named.items()
        if gpus
    }
    return _with_configurations(Placement(session, own), configurations, here)


def _with_configurations(
    placed: Placement, configurations: Collection[Configuration], here: Installed
) -> Placement:
    found: dict[Asked, GpuChoice] = {}
    problems: dict[Asked, str] = {}
    for backend, gpus in dict.fromkeys(filter(None, map(_asked, configurations))):
        try:
            choice = choose_named(f"gpus of {backend}", gpus, here)
            _check_is_part(choice, placed.of(backend), backend)
            found[backend, gpus] = choice
        except ExecutorError as error:
            problems[backend, gpus] = str(error)
    own = {
        backend: together(_all_of(backend, placed, found, configurations), "as gpus of its experiments says")
        for backend in dict.fromkeys(backend for backend, _ in found)
        if placed.of(backend).by_default
    }
    uuids = {asked: choice.uuids for asked, choice in found.items()}
    return Placement(placed.session, {**placed.own, **own}, uuids, problems)


def _asked(configuration: Configuration) -> Asked | None:
    return None if configuration.gpus is None else (configuration.backend, configuration.gpus)


def _check_is_part(choice: GpuChoice, whole: GpuChoice, backend: str) -> None:
    """Refuse GPUs that the service of a backend will not have, because somebody named others.

    Raises:
        ExecutorError: there is such a GPU.
    """
    outside = [str(gpu) for gpu in choice.gpus if gpu not in whole.gpus]
    if outside and not whole.by_default:
        raise ExecutorError(
            f"gpus of {backend} names {', '.join(outside)}, which is not in use here ({whole.reason}):"
            " name it there too, or take it out of gpus"
        )


def _all_of(
    backend: str,
    placed: Placement,
    found: Mapping[Asked, GpuChoice],
    configurations: Iterable[Configuration],
) -> list[GpuChoice]:
    """Return the choices of a backend's configurations, and that of the session for those that name nothing."""
    choices = [choice for (name, _), choice in found.items() if name == backend]
    others = any(one.gpus is None and one.backend == backend for one in configurations)
    return [placed.of(backend), *choices] if others else choices
