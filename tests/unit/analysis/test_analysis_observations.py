from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llem.analysis.observations import PLACE, Observation, newest
from pytest_llem.records import Quantity, unavailable
from unit.analysis.analysis_samples import ENERGY, THROUGHPUT, observation, result

SUMMED = Quantity(value=0.5, unit="J/token", source="nvml_counter", parts=("gpu", "cpu"))
MEASURED = {
    THROUGHPUT: Quantity(value=250.0, unit="token/s", source="clock"),
    ENERGY: unavailable("J/token", "no meter"),
}


def test_an_observation_keeps_values_with_their_sources() -> None:
    """A value lies at its metric's place with its source; what is unavailable or missing is NaN, never 0."""
    found = Observation.of(result(MEASURED))
    assert found.values[PLACE[THROUGHPUT]] == 250.0
    assert found.sources[PLACE[THROUGHPUT]] == "clock"
    for metric in (ENERGY, "ttft_ms_p99"):
        assert math.isnan(found.values[PLACE[metric]])
        assert found.sources[PLACE[metric]] == "unavailable"


def test_an_observation_keeps_what_a_value_is_the_sum_of() -> None:
    """The parts of a total lie at its metric's place; a number that is no sum has none."""
    found = Observation.of(result(MEASURED | {ENERGY: SUMMED}))
    assert found.parts[PLACE[ENERGY]] == ("gpu", "cpu")
    assert found.parts[PLACE[THROUGHPUT]] == ()


def test_an_observation_keeps_its_place_in_the_run() -> None:
    """Configuration, block, launch, flags and the UUIDs of the GPUs survive."""
    found = Observation.of(result(MEASURED))
    assert (found.configuration, found.label, found.block) == ("hash", "pytorch-b8", (2, "monday"))
    assert (found.status, found.failure_kind, found.launch) == ("completed", None, "launch-7")
    assert (found.flags, found.devices) == (("not_converged",), ("GPU-1", "GPU-2"))


def test_a_failed_result_has_a_class_and_no_values() -> None:
    """A result without a measurement yields its failure class and NaN for every metric."""
    found = Observation.of(result({}, failure="oom"))
    assert (found.status, found.failure_kind, found.launch) == ("failed", "oom", None)
    assert all(map(math.isnan, found.values))


def test_observations_share_their_sources() -> None:
    """Two observations with equal sources and parts hold one tuple, so that 100,000 of them stay small."""
    first, second = Observation.of(result(MEASURED)), Observation.of(result(MEASURED))
    assert first is not second
    assert first.sources is second.sources
    assert first.parts is second.parts


def test_the_newest_completed_attempt_stands_for_an_experiment() -> None:
    """A repeated experiment counts once, with its newest completed attempt, in whatever order they come."""
    attempts = [
        observation(3.0, started_at=30.0),
        observation(None, started_at=40.0, failure="oom"),
        observation(None, started_at=10.0, failure="timeout"),
        observation(2.0, started_at=20.0),
    ]
    (kept,) = newest(attempts)
    assert kept.values[PLACE[THROUGHPUT]] == 3.0


def test_the_newest_failure_stands_for_an_experiment_that_was_never_completed() -> None:
    """Two failed attempts are one failed experiment, of the newer one's class."""
    attempts = [
        observation(None, started_at=10.0, failure="timeout"),
        observation(None, started_at=20.0, failure="oom"),
    ]
    assert [kept.failure_kind for kept in newest(attempts)] == ["oom"]


ATTEMPTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.booleans(), st.integers(0, 1000)),
    max_size=30,
    unique_by=lambda attempt: attempt[3],
)


@settings(deadline=None)
@given(ATTEMPTS)
def test_every_experiment_is_kept_once_in_order_of_time(attempts: list[tuple[str, int, bool, int]]) -> None:
    """Whatever the attempts, each configuration and cycle is there once, completed if any attempt was."""
    observations = [
        observation(1.0, configuration=key, cycle=cycle, started_at=start, failure=None if done else "oom")
        for key, cycle, done, start in attempts
    ]
    kept = newest(observations)
    assert [one.started_at for one in kept] == sorted(one.started_at for one in kept)
    found = {(one.configuration, one.cycle): one.status == "completed" for one in kept}
    assert len(found) == len(kept)
    assert found == {
        (key, cycle): any(done for k, c, done, _ in attempts if (k, c) == (key, cycle))
        for key, cycle, _, _ in attempts
    }
