"""What the tests of the meters share: children that meet scripted GPUs, and a powercap tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from standin.build import SUCCESS, Gpu, build_nvml, environment

TESTS = Path(__file__).parents[2]

PRELUDE = """
import time
from pathlib import Path
from pytest_llem.meters import base, choose, devices, nvml, power, summary, trace, window
from standin.child import clock, epoch_s, show, sleep_until
"""

Play = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that holds the stand-in for libnvidia-ml.so.1."""
    return build_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def play(nvml_library: Path, tmp_path: Path) -> Play:
    """Return a function that runs code in a child with scripted GPUs and returns what it `show`s.

    With `speed=0` the script's time is moved by the child's `clock` alone.
    """

    def play(
        code: str, *gpus: Gpu, init: int = SUCCESS, speed: float = 1.0, **variables: str
    ) -> dict[str, Any]:
        scripted = environment(nvml_library, tmp_path / "script", gpus, init, speed=speed)
        child = subprocess.run(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
            env=os.environ | {"PYTHONPATH": str(TESTS)} | scripted | variables,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        shown: dict[str, Any] = json.loads(child.stdout)
        return shown

    return play
