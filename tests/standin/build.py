"""Compiles the stand-in for NVIDIA's management library and writes the scripts that it plays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NEVER = -1.0
SUCCESS, DRIVER_NOT_LOADED, VERSION_MISMATCH = 0, 9, 18


@dataclass(frozen=True)
class Gpu:
    """One device of a script; times count from the child's `nvmlInit`.

    `power_w` holds (from second, watts) pairs; each holds until the next.
    """

    power_w: tuple[tuple[float, float], ...] = ((0.0, 200.0),)
    tick_ms: float = 50.0
    mig: bool = False
    counter: bool = True
    lost_after_s: float = NEVER
    reset_after_s: float = NEVER

    def energy_j(self, begin_s: float, end_s: float) -> float:
        """Return the true energy of the curve between two times."""
        ends_s = [at_s for at_s, _ in self.power_w[1:]] + [end_s]
        return sum(
            watts * max(0.0, min(until_s, end_s) - max(at_s, begin_s))
            for (at_s, watts), until_s in zip(self.power_w, ends_s, strict=True)
        )

    def nearest_tick_s(self, at_s: float) -> float:
        """Return the time of the tick that is nearest to `at_s`."""
        return round(at_s * 1000 / self.tick_ms) * self.tick_ms / 1000

    def line(self) -> str:
        """Return the device's line of the script."""
        curve = " ".join(f"{at_s}:{watts}" for at_s, watts in self.power_w)
        return (
            f"{self.tick_ms} {self.mig:d} {self.counter:d} {self.lost_after_s} {self.reset_after_s} {curve}"
        )


def uuid(index: int) -> str:
    """Return the UUID that the stand-in gives to a device."""
    return f"GPU-standin-{index}"


def build_nvml(folder: Path) -> Path:
    """Compile `libnvidia-ml.so.1` into `folder`, which is to go on `LD_LIBRARY_PATH`."""
    library = folder / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("nvml.c")
    subprocess.run(
        ["cc", "-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-lm"], check=True
    )
    return folder


def environment(library: Path, script: Path, gpus: Sequence[Gpu], init: int = SUCCESS) -> dict[str, str]:
    """Write the script and return what a child process needs in its environment to meet these GPUs."""
    script.write_text("\n".join([str(init), *(gpu.line() for gpu in gpus)]) + "\n")
    paths = [str(library), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"NVML_STANDIN": str(script), "LD_LIBRARY_PATH": ":".join(paths)}


def write_zone(folder: Path, name: str, energy_uj: int, largest_uj: int = 262_143_328_850) -> Path:
    """Write one zone of a powercap tree and return the file of its counter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest_uj}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"
