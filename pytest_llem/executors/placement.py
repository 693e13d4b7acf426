"""Which GPUs each service of a session works on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pytest_llem.campaign.schema import Service
from pytest_llem.executors.gpu_choice import GpuChoice, choose_gpus
from pytest_llem.executors.gpus import Installed


class Placement(NamedTuple):
    """The GPUs of a session, and of the services that have others.

    Attributes:
        session: what `--campaign-gpus`, the environment or the machine say.
        own: `services.<backend>.devices`, where that names GPUs and no option overrules it.
    """

    session: GpuChoice
    own: Mapping[str, GpuChoice]

    def of(self, backend: str) -> GpuChoice:
        """Return the GPUs of a backend's service."""
        return self.own.get(backend, self.session)

    def uuids(self, backends: Iterable[str]) -> list[str]:
        """Return all GPUs that these backends work on."""
        return sorted({uuid for backend in backends for uuid in self.of(backend).uuids})


def place(
    asked: str | None, services: Mapping[str, Service], environ: Mapping[str, str], here: Installed
) -> Placement:
    """Return which GPUs a session's services work on.

    Args:
        asked: `--campaign-gpus`; it wins over the campaign.
        services: `services` of the campaign.
        environ: of the session.
        here: the GPUs of this machine.

    Raises:
        ExecutorError: a GPU is named that this machine does not have.
    """
    session = choose_gpus(asked, environ, here)
    if asked is not None:
        return Placement(session, {})
    named = {name: ",".join(service.gpus()) for name, service in services.items()}
    own = {
        name: choose_gpus(gpus, environ, here, f"services.{name}.devices")
        for name, gpus in named.items()
        if gpus
    }
    return Placement(session, own)
