"""What the host learns of its GPUs, through the unmodified binding over a stand-in for the driver's library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.executors.gpus import Gpu, GpuMemory, Installed
from standin.build import DRIVER_NOT_LOADED, VERSION_MISMATCH, uuid
from standin.build import Gpu as Scripted

OnGpus = Callable[..., Any]

MB = 1 << 20
BOTH = f"gpus.memory(['{uuid(0)}', '{uuid(1)}'])"
LOST = Scripted(lost_after_s=0)


def test_gpus_are_listed_in_the_order_of_the_bus(on_gpus: OnGpus) -> None:
    """Each GPU has its index, UUID and name."""
    assert on_gpus("gpus.installed()", Scripted(), Scripted()) == Installed(
        (Gpu(0, uuid(0), "Stand-in 0"), Gpu(1, uuid(1), "Stand-in 1"))
    )


def test_without_a_driver_there_are_no_gpus(on_gpus: OnGpus) -> None:
    """A machine without the library, and one without its kernel module, have no GPUs and no problem."""
    assert on_gpus("gpus.installed()", init=DRIVER_NOT_LOADED) == Installed()
    assert on_gpus("gpus.installed()", LD_LIBRARY_PATH="/nonexistent") == Installed()
    (memory,) = on_gpus("gpus.memory(['GPU-a'])", LD_LIBRARY_PATH="/nonexistent")
    assert memory == GpuMemory("GPU-a", problems=("no NVIDIA driver",))


def test_a_driver_that_does_not_answer_is_a_problem(on_gpus: OnGpus) -> None:
    """A driver whose library and kernel module differ is said, and ends nothing."""
    found, (memory,) = on_gpus("gpus.installed(), gpus.memory(['GPU-a'])", init=VERSION_MISMATCH)
    (problem,) = found.problems
    assert found.gpus == ()
    assert problem.startswith("the NVIDIA driver does not answer: ")
    assert memory == GpuMemory("GPU-a", problems=(problem,))


def test_a_question_that_is_not_answered_costs_that_fact_alone(on_gpus: OnGpus) -> None:
    """A lost GPU still has the place and UUID that the driver remembers, and the list is whole."""
    found = on_gpus("gpus.installed()", LOST, Scripted())
    assert found.gpus == (Gpu(0, uuid(0), None), Gpu(1, uuid(1), "Stand-in 1"))
    assert found.problems == ("GPU 0 does not answer nvmlDeviceGetName: GPU is lost",)
    assert str(found) == (
        "this machine has GPU 0 (name unknown, GPU-standin-0), GPU 1 (Stand-in 1, GPU-standin-1);"
        " GPU 0 does not answer nvmlDeviceGetName: GPU is lost"
    )


def test_memory_names_all_processes_that_compute_or_draw(on_gpus: OnGpus) -> None:
    """Each GPU has its own processes; one that computes and draws is listed by both and counted once."""
    first, second = on_gpus(
        BOTH, Scripted(), Scripted(), memory=["81559 700 C:41:300 C:43:30 G:41:300 G:42:50", "81559 500"]
    )
    assert (first.total_bytes, first.used_bytes) == (81559 * MB, 700 * MB)
    assert first.by_pid == {41: 300 * MB, 42: 50 * MB, 43: 30 * MB}
    assert first.compute_pids == {41, 43}
    assert (second.by_pid, second.compute_pids, second.problems) == ({}, frozenset(), ())


@pytest.mark.parametrize("held_mb", [-1, 0])
def test_memory_that_is_not_told_is_unknown_and_not_zero(on_gpus: OnGpus, held_mb: int) -> None:
    """A process of which the driver says "not available", or 0 as in containers, uses an unknown amount."""
    (memory,) = on_gpus(f"gpus.memory(['{uuid(0)}'])", Scripted(), memory=[f"1000 900 C:41:{held_mb}"])
    assert memory.by_pid == {41: None}
    assert memory.foreign_pct([41]) is None
    assert memory.foreign_pct([]) == 90


def test_a_gpu_that_is_lost_leaves_the_others_facts(on_gpus: OnGpus) -> None:
    """What cannot be read is None with sentences; the other GPUs are read."""
    first, second = on_gpus(BOTH, LOST, Scripted(), memory=["1000 10", "1000 20"])
    assert (first.total_bytes, first.used_bytes, first.by_pid, first.compute_pids) == (None,) * 4
    assert first.problems[0] == "GPU-standin-0 does not answer nvmlDeviceGetMemoryInfo: GPU is lost"
    assert first.foreign_pct([]) is None
    assert second.used_bytes == 20 * MB


def test_a_gpu_without_lists_of_processes_still_tells_its_memory(on_gpus: OnGpus) -> None:
    """Where NVML lists no processes, what others use is known only while there is nothing of ours."""
    expression = "gpus.memory(['GPU-standin-0', 'GPU-elsewhere'])"
    there, elsewhere = on_gpus(expression, Scripted(), memory=["not supported"])
    assert (there.by_pid, there.compute_pids, len(there.problems)) == (None, None, 3)
    assert elsewhere.problems == ("GPU-elsewhere does not answer nvmlDeviceGetHandleByUUID: Not Found",)
    memory = GpuMemory("GPU-a", total_bytes=1000, used_bytes=400)
    assert (memory.foreign_pct([]), memory.foreign_pct([7])) == (40, None)


@given(
    own=st.dictionaries(st.integers(1, 50), st.integers(1, 10**10), min_size=1),
    others=st.dictionaries(st.integers(51, 99), st.none() | st.integers(1, 10**10)),
    driver_bytes=st.integers(0, 10**9),
    unlisted=st.sets(st.integers(100, 200)),
)
def test_foreign_memory_is_all_that_is_not_ours(
    own: dict[int, int], others: dict[int, int | None], driver_bytes: int, unlisted: set[int]
) -> None:
    """It is what other processes and the driver use, told or not, whichever of ours use the GPU."""
    foreign_bytes = driver_bytes + sum(used or 0 for used in others.values())
    used_bytes = foreign_bytes + sum(own.values())
    memory = GpuMemory("GPU-a", total_bytes=10**12, used_bytes=used_bytes, by_pid=own | others)
    assert memory.foreign_pct(own.keys() | unlisted) == pytest.approx(foreign_bytes / 10**10)
    assert memory.foreign_pct(()) == pytest.approx(used_bytes / 10**10)


def test_processes_of_ours_that_are_not_listed_make_the_foreign_share_unknown() -> None:
    """A live engine that NVML lists under another process id is not taken for a stranger's."""
    memory = GpuMemory("GPU-a", total_bytes=1000, used_bytes=950, by_pid={40001: 920})
    assert memory.foreign_pct([7]) is None
    assert memory.foreign_pct([7, 40001]) == 3


def test_an_uneven_account_is_never_negative() -> None:
    """Processes that are read after the total may seem to use more than all."""
    assert GpuMemory("GPU-a", total_bytes=1000, used_bytes=100, by_pid={7: 120}).foreign_pct([7]) == 0
