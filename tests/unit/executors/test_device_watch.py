"""Who is ours, resident or foreign on a GPU, and how much CPU time others take."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.executors import cpu_load
from pytest_llem.executors.cpu_load import CpuLoad, CpuTime, foreign_share
from pytest_llem.executors.gpus import GpuMemory
from pytest_llem.executors.isolation import (
    FOREIGN_CPU_LIMIT,
    NOT_LISTED,
    NOT_VISIBLE,
    DeviceWatch,
    flagged,
    refusal,
)
from pytest_llem.records import GpuProcess, Isolation
from pytest_llem.worker.protocol import Answer

GPU, OTHER = "GPU-a", "GPU-b"
NOBODY = 2**22 + 1
"""Above the largest process id of Linux."""


def used_by(*pids: int, uuid: str = GPU) -> GpuMemory:
    return GpuMemory(uuid, by_pid=dict.fromkeys(pids))


class Script:
    """What NVML says, reading by reading; the last one stays. `ours` are our processes."""

    def __init__(self, *readings: Sequence[GpuMemory], ours: set[int]) -> None:
        self._readings = list(readings)
        self._ours = ours
        self.asked = 0

    def read(self) -> Sequence[GpuMemory]:
        return self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]

    def own_pids(self) -> set[int]:
        self.asked += 1
        return self._ours

    def watched(self) -> Isolation:
        """Take the first reading for the residents, and watch the rest."""
        watch = DeviceWatch(self.read, self.own_pids)
        watch.note_residents()
        with watch.watching() as look:
            while len(self._readings) > 1:
                look.again()
        return look.found()


@pytest.fixture
def someone() -> Iterator[int]:
    """Return the process id of a process that is not ours."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def test_a_newcomer_is_foreign_on_each_of_its_gpus(someone: int) -> None:
    """Who is neither resident nor ours is named with process id, name and GPUs."""
    ours = os.getpid()
    both = [used_by(ours, someone), used_by(someone, uuid=OTHER)]
    found = Script([used_by(), used_by(uuid=OTHER)], both, ours={ours}).watched()
    (foreign,) = found.foreign
    assert (foreign.pid, foreign.devices) == (someone, (GPU, OTHER))
    assert foreign.name
    assert (found.devices, found.residents, found.problem) == ((GPU, OTHER), (), None)


def test_who_left_in_the_middle_was_there(someone: int) -> None:
    """A process that is seen in one look of several is foreign."""
    found = Script([used_by()], [used_by()], [used_by(someone)], [used_by()], ours={os.getpid()}).watched()
    assert [process.pid for process in found.foreign] == [someone]


def test_residents_are_known(someone: int) -> None:
    """Who was there before is a resident and never foreign; ours are not even asked for."""
    script = Script([used_by(someone)], [used_by(someone)], ours={os.getpid()})
    found = script.watched()
    assert ([process.pid for process in found.residents], found.foreign) == ([someone], ())
    assert script.asked == 0


def test_without_knowing_ours_nobody_is_accused(someone: int) -> None:
    """While our processes cannot be listed, no other can be told from them."""
    assert Script([used_by()], [used_by(someone)], ours=set()).watched().foreign == ()


def test_a_process_that_cannot_be_seen_is_a_problem_if_it_stays() -> None:
    """One that has just ended cannot be seen either, so one look alone says nothing."""
    once = Script([used_by()], [used_by(NOBODY)], [used_by()], ours={os.getpid()}).watched()
    assert (once.foreign, once.problem) == ((), None)
    stays = Script([used_by()], [used_by(NOBODY)], ours={os.getpid()}).watched()
    assert (stays.foreign, stays.problem) == ((), NOT_VISIBLE)


def test_a_driver_that_lists_no_processes_is_a_problem() -> None:
    """Nothing was seen because nothing could be."""
    found = Script([GpuMemory(GPU)], ours={os.getpid()}).watched()
    assert (found.devices, found.foreign, found.problem) == ((GPU,), (), NOT_LISTED)


FOREIGN = GpuProcess(pid=7, name="miner", devices=(GPU,))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Isolation(devices=(GPU,)), None),
        (Isolation(devices=(GPU,), residents=(FOREIGN,)), None),
        (Isolation(devices=(GPU,), foreign=(FOREIGN,)), f"miner (process 7) on {GPU}"),
        (Isolation(devices=(GPU,), foreign_cpu_share=0.5), None),
        (Isolation(devices=(), foreign_cpu_share=0.5), "other processes took 50% of all CPU time"),
        (Isolation(devices=(), foreign_cpu_share=FOREIGN_CPU_LIMIT), None),
        (Isolation(devices=()), None),
    ],
)
def test_what_counts_is_who_uses_the_device(found: Isolation, words: str | None) -> None:
    """On GPUs that is a foreign process, without one the CPU load of others above the limit."""
    failure = refusal(found)
    assert (failure is None) is (words is None)
    if failure and words:
        assert failure.kind == "not_isolated"
        assert words in failure.message
    assert flagged(Answer(), found) == Answer()


SECONDS = st.floats(0, 1e6)


@given(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS)
def test_the_share_of_others_is_what_is_busy_and_not_ours(
    idle_s: float, own_s: float, foreign_s: float, before_s: float, own_before_s: float
) -> None:
    """It is a part of all CPU time since the begin, whatever was before."""
    passed_s = idle_s + own_s + foreign_s
    begin = CpuTime(0, before_s + own_before_s, before_s, own_before_s)
    end = CpuTime(1, begin.passed_s + passed_s, begin.busy_s + own_s + foreign_s, own_before_s + own_s)
    share = foreign_share(begin, end)
    assert 0 <= share <= 1
    if passed_s > 1:
        assert share == pytest.approx(foreign_s / passed_s, abs=1e-6)


def test_a_short_window_has_no_share() -> None:
    """Before its begin, and so soon after it, the load of others is not judged, and our processes are not listed."""
    script = Script([], ours={os.getpid()})
    load = CpuLoad(script.own_pids)
    assert load.share() is None
    load.begin()
    assert load.share() is None
    assert script.asked == 0


@pytest.mark.parametrize(("gpus", "listings"), [([], (1, 1, 2)), ([used_by()], (0, 0, 0))])
def test_our_processes_are_not_listed_within_the_window(
    monkeypatch: pytest.MonkeyPatch, gpus: list[GpuMemory], listings: tuple[int, int, int]
) -> None:
    """Listing is a command where they are in containers: it runs before and after, and on GPUs not at all."""
    monkeypatch.setattr(cpu_load, "LEAST_S", 0.0)
    script = Script(gpus, ours={os.getpid()})
    with DeviceWatch(script.read, script.own_pids).watching() as look:
        look.enter("warm-up")
        before = script.asked
        look.enter("window")
        within = script.asked
    share = look.found().foreign_cpu_share
    assert (before, within, script.asked) == listings
    assert (share is None) is bool(gpus)
