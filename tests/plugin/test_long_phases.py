"""Where the output is no terminal, what lasts long has a line of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Campaign = Callable[..., Path]

IMPATIENT = """
from pytest_llem import long_waits

long_waits.LONG_S = 0.5
"""
"""A conftest.py that shortens the 30 s."""

SLOW = ("--campaign-set", "defaults.abacus.load_s=2", "--campaign-set", "grid.shared.batch_size=[1]")


def run(pytester: pytest.Pytester, *options: str) -> list[str]:
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", *SLOW, *options)
    done.assert_outcomes(passed=2)
    return done.stdout.lines


@pytest.mark.parametrize("options", [(), ("-v",), ("-s",)])
def test_a_log_tells_of_a_long_load(
    pytester: pytest.Pytester, campaign: Campaign, options: tuple[str, ...]
) -> None:
    """While an engine takes long to load, a line says of which experiment; the other phases have none."""
    campaign()
    pytester.makeconftest(IMPATIENT)
    told = [line for line in run(pytester, *options) if "s now)" in line and ": loading" in line]
    assert told == [f"abacus-c{cycle}: loading (for 0.5 s now)" for cycle in (1, 2)]


def test_a_long_gap_is_told_once(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A gap, which is counted down each second, has one line."""
    campaign()
    pytester.makeconftest(IMPATIENT)
    lines = run(pytester, "--campaign-set", "execution.cycle_gap_seconds=2.5")
    assert len([line for line in lines if line.startswith("cycle gap: ")]) == 1


def test_what_is_quick_or_quiet_has_no_line(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Below 30 s nothing is said, and with -q nothing at all."""
    campaign()
    assert not any("s now)" in line for line in run(pytester))
    pytester.makeconftest(IMPATIENT)
    assert not any("s now)" in line for line in run(pytester, "-q"))
