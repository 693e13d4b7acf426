"""What is known, before anything runs, of the machine on which engines will run. Found by the executors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Device:
    """An NVIDIA GPU.

    Attributes:
        index: its place on the PCI bus, as `nvidia-smi` counts; None for a MIG partition.
        capability: CUDA compute capability, such as (9, 0); None when not known, as is
        memory_bytes: all of its memory.
    """

    index: int | None
    uuid: str
    capability: tuple[int, int] | None = None
    memory_bytes: int | None = None

    def answers_to(self, name: int | str) -> bool:
        """Return whether an index, a UUID or the beginning of one means this GPU."""
        return name == self.index or str(name) == str(self.index) or self.uuid.startswith(str(name))


@dataclass(frozen=True, slots=True)
class Host:
    """A machine. Where nothing is known of it, rules are given None in its place.

    Attributes:
        devices: all of its NVIDIA GPUs; empty: it has none.
        chosen: the GPUs of a backend's service, by backend; `devices` for a backend that is not in it.
        modules: by backend, whether its interpreter can import a module that somebody has looked for.
        hub: the cache of a hub's client; None: nobody has looked where it is.
    """

    devices: tuple[Device, ...] = ()
    chosen: Mapping[str, tuple[Device, ...]] = field(default_factory=dict)
    modules: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    hub: Path | None = None

    def of(self, backend: str, gpus: tuple[int | str, ...] | None) -> tuple[Device, ...]:
        """Return the GPUs that a configuration can use: those that it names, else those of its backend."""
        if gpus is None:
            return self.chosen.get(backend, self.devices)
        return tuple(device for device in self.devices if any(map(device.answers_to, gpus)))

    def has_module(self, backend: str, module: str) -> bool | None:
        """Return whether a backend's interpreter can import a module; None if nobody knows."""
        return self.modules.get(backend, {}).get(module)
