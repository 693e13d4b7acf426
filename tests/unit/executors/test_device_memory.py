"""Whose GPU memory is in use, and whether that of an ended engine is free again, on readings of the driver."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.executors.device_memory import SLACK_BYTES, DeviceMemory
from pytest_llem.executors.gpus import GpuMemory

MIB = 1 << 20
TOTAL = 1000 * MIB
OURS, FOREIGN = 11, 99


def gpu(used_mib: int | None, uuid: str = "GPU-1", **by_pid: int | None) -> GpuMemory:
    """Return a reading; processes are written `p11=300`, in MiB."""
    used = None if used_mib is None else used_mib * MIB
    held = {int(pid[1:]): size and size * MIB for pid, size in by_pid.items()}
    return GpuMemory(uuid, None if used is None else TOTAL, used, held)


def memory(*readings: Sequence[GpuMemory], freed_within_s: float = 0.0) -> DeviceMemory:
    """Return a memory that gives one reading after another; the last one stays."""
    left = list(readings)
    return DeviceMemory(lambda: left.pop(0) if len(left) > 1 else left[0], freed_within_s)


def no_engine() -> set[int]:
    return set()


def our_engine() -> set[int]:
    return {OURS}


@given(used=st.integers(0, 1000), ours=st.integers(1, 1000), limit_pct=st.integers(50, 100))
def test_gpu_is_crowded_by_what_is_not_ours(used: int, ours: int, limit_pct: int) -> None:
    """The threshold is held against what is in use less what our live engine uses."""
    ours = min(ours, used) or 1
    found = memory([gpu(used, p11=ours)]).crowded(limit_pct, our_engine)
    assert (found is not None) is (max(used - ours, 0) / 10 > limit_pct)


def test_live_engine_may_fill_its_gpu() -> None:
    """An engine that reserves nearly all memory, as vLLM does, crowds nobody out."""
    full = memory([gpu(950, p11=930)])
    assert full.crowded(90, our_engine) is None
    assert full.crowded(90, no_engine) is not None


def test_crowded_gpu_of_several_is_named() -> None:
    """All devices of the slot count, those too that our engine does not use."""
    found = memory([gpu(950, p11=930), gpu(940, "GPU-2", p99=920)]).crowded(90, our_engine)
    assert found is not None
    assert found.startswith(
        "94 % of the memory of GPU-2 is used by others than our engine, 920 MiB of it by process 99"
    )


@pytest.mark.parametrize(
    "reading",
    [
        pytest.param(gpu(950), id="the driver lists nobody"),
        pytest.param(gpu(950, p99=940), id="the driver counts in another namespace"),
        pytest.param(gpu(950, p11=None), id="the driver does not tell how much"),
        pytest.param(gpu(None), id="the driver does not answer"),
    ],
)
def test_memory_that_cannot_be_told_apart_is_not_judged(reading: GpuMemory) -> None:
    """While an engine lives whose memory is not known, nobody else is blamed for it."""
    assert memory([reading]).crowded(90, our_engine) is None


def test_memory_is_not_judged_while_the_engine_is_not_known() -> None:
    """Where nobody can say whether an engine lives, full memory may be its own."""
    assert memory([gpu(950, p99=940)]).crowded(90, lambda: None) is None


def test_engine_is_asked_for_its_processes_only_when_it_matters() -> None:
    """Below the threshold nothing has to be told apart: the question is an exec into a container."""
    assert memory([gpu(100)]).crowded(90, pytest.fail) is None


def test_engine_that_is_still_listed_has_not_freed_its_memory() -> None:
    """A process of the ended engine that the driver still knows is named."""
    assert memory([gpu(300, p11=280)]).wait_until_freed({OURS}) == "process 11 of it still uses GPU-1"


def test_freeing_is_waited_for() -> None:
    """Memory may take a moment; what is free within the patience is no finding."""
    slow = memory([gpu(300, p11=280)], [gpu(300, p11=280)], [gpu(20)], freed_within_s=30)
    assert slow.wait_until_freed({OURS}) is None


@given(before=st.integers(0, 200), after=st.integers(0, 500))
def test_memory_without_a_process_is_held_against_that_at_rest(before: int, after: int) -> None:
    """More than before the first engine, by more than the slack, was left behind."""
    slot = memory([gpu(before)], [gpu(after)])
    slot.note_rest()
    assert (slot.wait_until_freed(()) is not None) is (after > before + SLACK_BYTES // MIB)


def test_foreign_process_that_came_meanwhile_left_nothing_behind() -> None:
    """What another process uses by name is not taken for our engine's."""
    slot = memory([gpu(20)], [gpu(520, p99=500)])
    slot.note_rest()
    assert slot.wait_until_freed({OURS}) is None


def test_first_rest_is_the_one_that_counts() -> None:
    """A later look does not take an engine's memory for rest, unless that is asked for."""
    slot = memory([gpu(20)], [gpu(300)])
    slot.note_first_rest()
    slot.note_first_rest()
    assert slot.wait_until_freed(()) == "280 MiB more of GPU-1 are in use than before the first engine"
    slot.note_rest()
    assert slot.wait_until_freed(()) is None


@pytest.mark.parametrize(("reading", "known"), [([], False), ([gpu(None)], False), ([gpu(20)], True)])
def test_memory_is_known_where_a_driver_tells_it(reading: list[GpuMemory], known: bool) -> None:
    """Without a GPU, or one that answers, there is nothing to verify."""
    assert memory(reading).is_known() is known
