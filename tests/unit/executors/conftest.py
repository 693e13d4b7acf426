"""What the tests of executors share: a child process that meets scripted GPUs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from standin.build import SUCCESS, Gpu, build_nvml, environment

EVALUATE = """
import os, pickle, sys
from pytest_llem.executors import gpu_choice, gpus, slots
pickle.dump(eval(sys.argv[1]), sys.stdout.buffer)
"""

OnGpus = Callable[..., Any]


@pytest.fixture(scope="session")
def nvml_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that holds the stand-in for libnvidia-ml.so.1."""
    return build_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def on_gpus(nvml_folder: Path, tmp_path: Path) -> OnGpus:
    """Return a function that evaluates an expression where these GPUs are.

    `memory` has one line a GPU: total and used MB, then its processes (tests/standin/nvml.c).
    """

    def on_gpus(
        expression: str,
        *gpus: Gpu,
        memory: Sequence[str] = (),
        init: int = SUCCESS,
        **variables: str,
    ) -> Any:
        (tmp_path / "memory").write_text("\n".join(memory) + "\n")
        scripted = environment(nvml_folder, tmp_path / "script", gpus, init)
        scripted |= {"NVML_STANDIN_MEMORY": str(tmp_path / "memory"), "LLEM_SLOTS_DIR": str(tmp_path)}
        child = subprocess.run(
            [sys.executable, "-c", EVALUATE, expression],
            env=os.environ | scripted | variables,
            stdout=subprocess.PIPE,
            check=True,
            timeout=60,
        )
        return pickle.loads(child.stdout)

    return on_gpus
