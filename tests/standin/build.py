"""Compiles the stand-in for NVIDIA's management library and writes the scripts that it plays."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

NEVER = -1.0
SUCCESS, DRIVER_NOT_LOADED, VERSION_MISMATCH = 0, 9, 18

Curve = tuple[tuple[float, float], ...]
"""(from second, value) pairs; each holds until the next, the first one before its time too."""


@dataclass(frozen=True)
class Gpu:
    """One device of a script; times are seconds of the script.

    Attributes:
        power_w: the truth; () is a device that reports no power.
        tick_ms: between two values of the counter and of the sensors.
        counter, counter_factor: whether there is an energy counter, and by what it lies; 0 is a stuck one.
        counter_start_j: at the script's begin, as on a machine that has been up for some hours.
        instant: whether the device tells the power of the moment beside an average.
        average_s: what that is averaged over; 0 is a device from before Ampere, which averages nothing.
        fails_s: from when until when every reading fails.
        period_s: all curves begin anew so often; 0: never.
    """

    power_w: Curve = ((0.0, 200.0),)
    tick_ms: float = 50.0
    mig: bool = False
    counter: bool = True
    counter_factor: float = 1.0
    counter_start_j: float = 1e6
    instant: bool = True
    average_s: float = 1.0
    lost_after_s: float = NEVER
    reset_after_s: float = NEVER
    fails_s: tuple[float, float] = (NEVER, NEVER)
    period_s: float = 0.0
    temperature_c: Curve = ((0.0, 40.0),)
    sm_clock_mhz: Curve = ((0.0, 1500.0),)
    memory_clock_mhz: Curve = ((0.0, 2600.0),)
    throttle_reasons: Curve = ((0.0, 0.0),)

    def energy_j(self, begin_s: float, end_s: float) -> float:
        """Return the true energy of the curve between two times."""
        return self._energy_until_j(end_s) - self._energy_until_j(begin_s)

    def _energy_until_j(self, until_s: float) -> float:
        if not self.period_s:
            return _integral(self.power_w, until_s)
        periods, rest_s = divmod(until_s, self.period_s)
        return periods * _integral(self.power_w, self.period_s) + _integral(self.power_w, rest_s)

    def nearest_tick_s(self, at_s: float) -> float:
        """Return the time of the tick that is nearest to `at_s`."""
        return round(at_s * 1000 / self.tick_ms) * self.tick_ms / 1000

    def line(self) -> str:
        """Return the device's line of the script."""
        words: dict[str, object] = {
            "tick_ms": self.tick_ms,
            "mig": int(self.mig),
            "counter": int(self.counter),
            "factor": self.counter_factor,
            "start_j": self.counter_start_j,
            "instant": int(self.instant),
            "average_s": self.average_s,
            "lost_after_s": self.lost_after_s,
            "reset_after_s": self.reset_after_s,
            "fail_from_s": self.fails_s[0],
            "fail_until_s": self.fails_s[1],
            "period_s": self.period_s,
            "power": _written(self.power_w),
            "temperature": _written(self.temperature_c),
            "sm_clock": _written(self.sm_clock_mhz),
            "memory_clock": _written(self.memory_clock_mhz),
            "throttle": _written(self.throttle_reasons),
        }
        return " ".join(f"{key}={value}" for key, value in words.items())


def _written(curve: Curve) -> str:
    return ",".join(f"{at_s}:{value}" for at_s, value in curve)


def _integral(curve: Curve, until_s: float) -> float:
    """Return the integral from 0, which is negative for a time before."""
    begins_s = [0.0, *(at_s for at_s, _ in curve[1:])]
    ends_s = [*begins_s[1:], until_s]
    after = sum(
        value * max(0.0, min(end_s, until_s) - begin_s)
        for (_, value), begin_s, end_s in zip(curve, begins_s, ends_s, strict=True)
    )
    return after + curve[0][1] * min(0.0, until_s)


def uuid(index: int) -> str:
    """Return the UUID that the stand-in gives to a device."""
    return f"GPU-standin-{index}"


def build_nvml(folder: Path) -> Path:
    """Compile `libnvidia-ml.so.1` into `folder`, for `LD_LIBRARY_PATH`; without a compiler the test is skipped."""
    return _build(folder, "nvml.c", "libnvidia-ml.so.1")


def build_cuda(folder: Path) -> Path:
    """Compile `libcuda.so.1` likewise."""
    return _build(folder, "cuda.c", "libcuda.so.1")


def _build(folder: Path, source: str, library: str) -> Path:
    if shutil.which("cc") is None:
        pytest.skip(f"the stand-in for {library} needs a C compiler")
    path = Path(__file__).with_name(source)
    options = ["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *options, "-o", folder / library, path, "-lm"], check=True)
    return folder


def environment(
    library: Path,
    script: Path,
    gpus: Sequence[Gpu],
    init: int = SUCCESS,
    *,
    epoch_s: float = NEVER,
    speed: float = 1.0,
) -> dict[str, str]:
    """Write the script and return what a child process needs in its environment to meet these GPUs.

    Args:
        library: the folder that `build_nvml` returned.
        script: the file to write.
        gpus: the devices.
        init: what `nvmlInit` answers.
        epoch_s: `time.monotonic()` at which the script's time starts, in every process; else at its `nvmlInit`.
        speed: of the script's time; 0: it moves by `standin_skip` alone.
    """
    script.write_text("\n".join([f"{init} {epoch_s} {speed}", *(gpu.line() for gpu in gpus)]) + "\n")
    paths = [str(library), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"NVML_STANDIN": str(script), "LD_LIBRARY_PATH": ":".join(paths)}


def facts(file: Path, machine: Mapping[str, object], *devices: Mapping[str, object]) -> dict[str, str]:
    """Write what machine and devices say of themselves and return what a child needs to be told so.

    `nvml.c` has the keys. Without them, and for devices that are not here, nothing of it is supported.
    """
    lines = (" ".join(f"{key}={value}" for key, value in one.items()) for one in (machine, *devices))
    file.write_text("\n".join(lines) + "\n")
    return {"NVML_STANDIN_FACTS": str(file)}


def write_zone(folder: Path, name: str, energy_uj: int, largest_uj: int = 262_143_328_850) -> Path:
    """Write one zone of a powercap tree and return the file of its counter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest_uj}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"
