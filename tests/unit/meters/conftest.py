"""What the tests of the meters share: children that meet scripted GPUs, and a powercap tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from standin.build import SUCCESS, Gpu, build_nvml, environment

PRELUDE = """
import ctypes, dataclasses, json, time
from pathlib import Path
from pytest_llem.meters import choose, nvml

def epoch_s():
    library = ctypes.CDLL("libnvidia-ml.so.1")
    library.standin_epoch_s.restype = ctypes.c_double
    return library.standin_epoch_s()

def show(**values):
    plain = lambda value: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value.model_dump()
    print(json.dumps(values, default=plain))
"""

Play = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that holds the stand-in for libnvidia-ml.so.1."""
    if shutil.which("cc") is None:
        pytest.skip("the stand-in for NVML needs a C compiler")
    return build_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def play(nvml_library: Path, tmp_path: Path) -> Play:
    """Return a function that runs code in a child with scripted GPUs and returns what it `show`s."""

    def play(code: str, *gpus: Gpu, init: int = SUCCESS, **variables: str) -> dict[str, Any]:
        scripted = environment(nvml_library, tmp_path / "script", gpus, init)
        child = subprocess.run(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
            env=os.environ | scripted | variables,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        shown: dict[str, Any] = json.loads(child.stdout)
        return shown

    return play
