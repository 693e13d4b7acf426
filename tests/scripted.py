"""Whole sessions on scripted GPUs and powercap trees, with the toy backend."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import results_of
from standin.build import Gpu, environment

TOY = Path(__file__).parent / "toy"

CAMPAIGN = """
campaign_name: measured
model: beads
defaults:
  {max_input_tokens: 4, max_output_tokens: 4, num_input_prompts: 20, warmup: {enabled: false},
   baseline: {enabled: false}}
window: {seconds: 0, passes: 1}
grid: {backends: [abacus]}
execution: {cycles: 1, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}
"""


class Session:
    """One session on all of some scripted GPUs, and what it left.

    Args:
        folder: its rootdir; it may have seen a session before.
        nvml: the folder of the stand-in for NVIDIA's library.
        gpus: the devices; their script begins now.
        settings: of `--campaign-set`.
        options: others.
        powercap: the root of a powercap tree; by default there is none.
        conftest: of the session.
        under: a command that runs it.
    """

    def __init__(
        self,
        folder: Path,
        nvml: Path,
        gpus: Sequence[Gpu],
        *settings: str,
        options: Sequence[str] = (),
        powercap: Path | None = None,
        conftest: str = "",
        under: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.epoch_s = time.monotonic()
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "conftest.py").write_text(conftest)
        (folder / "grid.yaml").write_text(CAMPAIGN)
        (folder / "slots").mkdir(exist_ok=True)
        scripted = environment(nvml, folder / "script", gpus, epoch_s=self.epoch_s)
        apart = {
            "LLEM_POWERCAP_ROOT": str(powercap or folder / "none"),
            "LLEM_SLOTS_DIR": str(folder / "slots"),
        }
        chosen = ",".join(str(index) for index in range(len(gpus))) or "none"
        words = [word for setting in settings for word in ("--campaign-set", setting)]
        command = [sys.executable, "-m", "pytest", "--campaign=grid.yaml", f"--campaign-gpus={chosen}"]
        self.done = subprocess.run(
            [*under, *command, *words, *options],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(TOY)} | scripted | apart,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def results(self) -> list[dict[str, Any]]:
        """All attempts on disk, in order of time."""
        return results_of(self.folder)

    @property
    def result(self) -> dict[str, Any]:
        """The only attempt."""
        (only,) = self.results
        return only

    @property
    def measurement(self) -> dict[str, Any]:
        """Its measurement."""
        assert self.result["measurement"], self.done.stdout
        measurement: dict[str, Any] = self.result["measurement"]
        return measurement

    def truth_j(self, gpu: Gpu, domain: str) -> float:
        """Return the integral of a device's curve between the edges that the result reports for it."""
        begin_s, end_s = self.measurement["energy_edges_s"][domain]
        return gpu.energy_j(begin_s - self.epoch_s, end_s - self.epoch_s)
