"""Tests on a real GPU: where there is none, the folder is skipped whole."""

from __future__ import annotations

import pytest

from pytest_llem.executors.gpus import Gpu, installed


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """The first GPU of this machine; what the tests start works on it too, however CUDA counts."""
    here = installed()
    if not here.gpus:
        pytest.skip("needs an NVIDIA GPU")
    first = here.gpus[0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", first.uuid)
    return first
