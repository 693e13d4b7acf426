"""Whole campaigns on the stand-in for TensorRT-LLM, on a scripted GPU, and what was asked of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from runs import results_of
from standin.build import DRIVER_NOT_LOADED, SUCCESS, Gpu, environment
from standin.curves import flat

STANDIN = Path(__file__).parent / "standin/tensorrt_llm"

DESCRIPTION = {
    "model_type": "llama",
    "vocab_size": 1000,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""The `config.json` of the model that is served."""

CAMPAIGN: Mapping[str, Any] = {
    "campaign_name": "engines",
    "model": "model",
    "defaults": {
        "max_input_tokens": 40,
        "max_output_tokens": 4,
        "num_input_prompts": 10,
        "warmup": {"enabled": False},
        "baseline": {"enabled": False},
        "tensorrt": {"max_batch_size": 2, "engine_cache_dir": "engines"},
    },
    "window": {"seconds": 0, "passes": 1},
    "execution": {"cycles": 1, "config_gap_seconds": 0, "cycle_gap_seconds": 0, "conditioning": False},
    "experiments": [{"backend": "tensorrt"}],
}


def install(folder: Path) -> Path:
    """Make a folder that is to an engine process as an installed TensorRT-LLM, and return it."""
    about = folder / "tensorrt_llm-1.2.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorrt-llm\nVersion: 1.2.1\n")
    (folder / "tensorrt_llm").symlink_to(STANDIN)
    return folder


def write_model(folder: Path, **changes: Any) -> Path:
    """Write a model: a description, and weights that nobody reads."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(DESCRIPTION | changes))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


class Project:
    """A folder with a model and the stand-in, in which campaigns run one after another.

    Args:
        folder: an empty one.
        nvml: the folder of the stand-in for NVIDIA's library.
    """

    def __init__(self, folder: Path, nvml: Path) -> None:
        self.folder = folder
        self._nvml = nvml
        self._library = install(folder / "library")
        self.model = write_model(folder / "model")
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "slots").mkdir()
        self.output = ""

    def run(self, *options: str, env: Mapping[str, str] | None = None, **changes: Any) -> int:
        """Run a campaign with other keys than `CAMPAIGN`'s, the engine with `env`; returns the exit status."""
        session = self.start(*options, env=env, **changes)
        self.output, _ = session.communicate()
        return session.returncode

    def start(
        self,
        *options: str,
        env: Mapping[str, str] | None = None,
        gpus: Sequence[Gpu] = (Gpu(flat(250)),),
        **changes: Any,
    ) -> subprocess.Popen[str]:
        """Start a campaign as `run` does, perhaps on a machine with other GPUs."""
        seen = {"PYTHONPATH": str(self._library), "TRTLLM_STANDIN_CALLS": str(self.folder / "calls")}
        services = {"tensorrt": {"env": seen | dict(env or {})}}
        campaign = {**CAMPAIGN, "services": services, **changes}
        (self.folder / "grid.yaml").write_text(yaml.safe_dump(campaign))
        init = SUCCESS if gpus else DRIVER_NOT_LOADED
        script = environment(self._nvml, self.folder / "script", gpus, init, epoch_s=time.monotonic())
        apart = {"LLEM_POWERCAP_ROOT": str(self.folder), "LLEM_SLOTS_DIR": str(self.folder / "slots")}
        chosen = "0" if gpus else "none"
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "--campaign=grid.yaml", f"--campaign-gpus={chosen}", *options],
            cwd=self.folder,
            env=os.environ | script | apart,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def results(self) -> list[dict[str, Any]]:
        """Return all attempts on disk, in order of time."""
        return results_of(self.folder)

    def measurements(self) -> list[dict[str, Any]]:
        """Return the measurements of all attempts, each of which must have one."""
        found = [result["measurement"] for result in self.results()]
        assert all(found), self.output
        return found

    def calls(self, *names: str) -> list[dict[str, Any]]:
        """Return the calls of these names, in order of time."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [call for line in lines if (call := json.loads(line))["call"] in names]
