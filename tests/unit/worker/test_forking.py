"""What the trial of forking says."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from pytest_llem.meters import presence
from pytest_llem.worker import forking

NO_DEVICE = 100
"""`CUDA_ERROR_NO_DEVICE` of the CUDA driver API."""


@pytest.mark.parametrize(
    ("file", "forks"),
    [("dev/nvidia0", False), ("dev/nvidia3", False), ("dev/dxg", False), ("dev/nvidiactl", True)],
)
def test_a_driver_that_does_not_come_up_matters_where_there_is_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, forks: bool
) -> None:
    """CUDA that fails in the forked child is a reason to spawn beside any GPU, whatever its number, and no other."""
    monkeypatch.setattr(presence, "CUDA_FILES", [f"{tmp_path}{pattern}" for pattern in presence.CUDA_FILES])
    (tmp_path / "dev").mkdir()
    (tmp_path / file).touch()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    sender.send((forking.ParentState(threads=1, cuda_initialised=False), NO_DEVICE))
    problem = forking._verdict(receiver, timeout_s=1)
    assert problem == (None if forks else "CUDA does not come up in a forked child (error 100)")
