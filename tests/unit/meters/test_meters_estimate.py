from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_llem.meters import estimate

STEP_S = estimate.CPU_TIME_STEP_S

ENGINE = """
import resource, subprocess, sys
burn = "import time\\nwhile time.process_time() < 0.3: pass"
for line in sys.stdin:
    subprocess.run([sys.executable, "-c", burn], check=True)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(sum(u.ru_utime + u.ru_stime for u in used), flush=True)
"""


@contextmanager
def engine(code: str = ENGINE) -> Iterator[subprocess.Popen[str]]:
    """Run a process that, for each line on stdin, burns CPU in a child and prints its CPU seconds so far."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def burn(process: subprocess.Popen[str]) -> float:
    """Let the engine work once and return its CPU seconds so far, as it counts them itself."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def test_energy_is_cpu_time_of_the_tree_times_rated_power(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modelled energy is the CPU time of the engine and its ended children x 3.5 W, and says so."""
    monkeypatch.delenv("LLEM_RATED_WATTS_PER_CPU", raising=False)
    with engine() as process:
        meter = estimate.open_meter(lambda: [process.pid])
        first_s = burn(process)
        begin = meter.read()
        last_s = burn(process)
        energy = meter.between(begin, meter.read())["cpu"]
    assert energy.value == pytest.approx((last_s - first_s) * 3.5, abs=8 * STEP_S * 3.5)
    assert (energy.unit, energy.source) == ("J", "model")
    assert "3.5 W per logical CPU" in str(energy.note)


def test_an_engine_that_starts_inside_the_window_counts_from_its_start() -> None:
    """A root process that is new at the end of a window is counted whole."""
    pids: list[int] = []
    meter = estimate.open_meter(lambda: pids)
    begin = meter.read()
    with engine() as process:
        used_s = burn(process)
        pids.append(process.pid)
        energy = meter.between(begin, meter.read())["cpu"]
    assert energy.value == pytest.approx(used_s * estimate.RATED_W_PER_CPU, abs=8 * STEP_S * 3.5)


def test_the_energy_of_an_engine_outlives_it() -> None:
    """When the engine has ended, what it had used by its last reading stays in the sum."""
    with engine() as process:
        meter = estimate.open_meter(lambda: [process.pid])
        burn(process)
        last = meter.read()
    assert meter.read().energy_j == last.energy_j


def test_a_window_without_an_engine_is_unavailable() -> None:
    """Where no engine used CPU time the value is unavailable, not 0 J."""
    meter = estimate.open_meter(list)
    energy = meter.between(meter.read(), meter.read())["cpu"]
    assert (energy.value, energy.source) == (None, "unavailable")


def test_the_rated_power_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLEM_RATED_WATTS_PER_CPU replaces the published average, in the sum and in the note."""
    monkeypatch.setenv("LLEM_RATED_WATTS_PER_CPU", "7")
    with engine() as process:
        meter = estimate.open_meter(lambda: [process.pid])
        used_s = burn(process)
        assert meter.read().energy_j["cpu"] == pytest.approx(used_s * 7, abs=8 * STEP_S * 7)
    assert "x 7 W per logical CPU" in meter.describe()


@pytest.mark.parametrize("text", ["0", "-3", "inf", "nan", "much"])
def test_a_rated_power_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A rated power that is not a positive number of watts is an error that quotes it."""
    monkeypatch.setenv("LLEM_RATED_WATTS_PER_CPU", text)
    with pytest.raises(ValueError, match=f"LLEM_RATED_WATTS_PER_CPU is '{text}'"):
        estimate.open_meter(list)
