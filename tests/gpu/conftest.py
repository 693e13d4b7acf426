"""Tests on a real GPU: where there is none, the folder is skipped whole."""

from __future__ import annotations

import pytest

from pytest_llem.executors.gpus import Gpu, installed


@pytest.fixture(autouse=True)
def gpu() -> Gpu:
    """The first GPU of this machine."""
    here = installed()
    if not here.gpus:
        pytest.skip("needs an NVIDIA GPU")
    return here.gpus[0]
