"""AMD GPUs: the driver's energy counter (`amdsmi`), read through `zeus.device`.

An optional extra: `pip install pytest-llem[amd]`. zeus itself checks the counter against the power when it is
opened, and honours HIP_VISIBLE_DEVICES and CUDA_VISIBLE_DEVICES. It knows no UUID, so devices go by their number
among those that it shows.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from typing import Any

from pytest_llem.meters.base import (
    READING_FAILED,
    Reading,
    Sample,
    energy_between,
    flags_between,
    samples_of,
)
from pytest_llem.records import Quantity, Source

NO_COUNTER = "zeus finds no energy counter that agrees with the power of this device"


def open_meter(names: Sequence[str] | None = None) -> AmdMeter | None:
    """Open the energy counters of AMD GPUs; None without zeus, or where it finds no GPU.

    A driver that does not answer is an unavailable domain with the reason.

    Args:
        names: an empty list opens nothing; zeus chooses devices by the environment alone.
    """
    if (names is not None and not names) or importlib.util.find_spec("zeus") is None:
        return None
    from zeus.device import get_gpus  # noqa: PLC0415 - an extra, and 0.14 s
    from zeus.device.gpu import ZeusGPUInitError  # noqa: PLC0415

    try:
        return AmdMeter(get_gpus(), {})
    except ZeusGPUInitError:
        return None
    except Exception as error:  # noqa: BLE001 - zeus passes on whatever amdsmi raises
        return AmdMeter((), {"gpu:all": f"the AMD GPUs do not answer: {error}"})


class AmdMeter:
    """The energy counters of AMD GPUs, one domain `gpu:amd-<number>` each."""

    source: Source = "amdsmi"

    def __init__(self, gpus: Any, unavailable: dict[str, str]) -> None:
        self._gpus = gpus
        supported = {f"gpu:amd-{n}": gpus.supports_get_total_energy_consumption(n) for n in range(len(gpus))}
        self._numbers = {
            domain: n for n, (domain, has_counter) in enumerate(supported.items()) if has_counter
        }
        without = (domain for domain in supported if domain not in self._numbers)
        self._unavailable = unavailable | dict.fromkeys(without, NO_COUNTER)

    def read(self, *, at_tick: bool = False) -> Reading:
        """Read every counter now; how often these move is not known, so there is no tick to wait for."""
        del at_tick
        reading = Reading(time.monotonic(), {}, dict(self._unavailable))
        for domain, number in self._numbers.items():
            try:
                reading.energy_j[domain] = self._gpus.get_total_energy_consumption(number) / 1000
            except Exception as error:  # noqa: BLE001 - zeus passes on whatever amdsmi raises
                reading.errors[domain] = f"the energy counter could not be read: {error}"
                reading.flags[domain] = READING_FAILED
        return reading

    def between(self, begin: Reading, end: Reading) -> dict[str, Quantity]:
        """Return each device's energy in J; its resolution is not known."""
        return energy_between(begin, end, self.source)

    def flags(self, begin: Reading, end: Reading) -> set[str]:
        """Return the words for what went wrong since the meter was opened."""
        return flags_between(begin, end)

    def sample(self) -> list[Sample]:
        """Return the counters as they are now."""
        return samples_of(self.read())

    def describe(self) -> str:
        """Return source and devices, and what is not measured."""
        missing = [f"{domain} (unavailable: {reason})" for domain, reason in self._unavailable.items()]
        return f"{self.source}: " + ", ".join([*self._numbers, *missing])

    def close(self) -> None:
        """Do nothing: zeus releases the library when the process ends."""
