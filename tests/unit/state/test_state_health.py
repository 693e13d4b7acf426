"""What the journals of a run say of its services, over sessions and writers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.state.health import HealthTally, Unhealthy
from pytest_llem.state.manifest import new_event
from unit.state.state_samples import RUN_ID, run_info, the_runs

BACKENDS = ("pytorch", "vllm")


def applied(*happened: tuple[str, Mapping[str, object]]) -> HealthTally:
    tally = HealthTally()
    for event, facts in happened:
        tally.apply(new_event(event, **facts))
    return tally


@given(
    st.lists(st.tuples(st.sampled_from(["health_check", "restart"]), st.sampled_from(BACKENDS)), max_size=20)
)
def test_looks_and_restarts_are_counted(history: list[tuple[str, str]]) -> None:
    """Checks are counted together, restarts by backend, in any order."""
    tally = applied(*((event, {"backend": backend}) for event, backend in history))
    assert tally.checks == sum(event == "health_check" for event, _ in history)
    restarted = [backend for event, backend in history if event == "restart"]
    assert tally.restarts == {backend: restarted.count(backend) for backend in restarted}


def test_service_is_unhealthy_until_it_recovers_or_the_session_ends() -> None:
    """Since when and why is kept; a new session has new services."""
    lost = ("unhealthy", {"backend": "vllm", "cycle": 2, "problem": "it does not run"})
    assert applied(lost).unhealthy == {"vllm": Unhealthy(2, "it does not run")}
    assert applied(lost, ("recovered", {"backend": "vllm"})).unhealthy == {}
    assert applied(lost, ("opened", {})).unhealthy == {}


def test_what_was_lost_is_summed() -> None:
    """Memory that was not freed is counted, and waits for the Docker engine are added up."""
    tally = applied(
        ("memory_not_freed", {"backend": "vllm"}),
        ("unavailable", {"waited_s": 20.5}),
        ("unavailable", {"waited_s": 1.5}),
    )
    assert (tally.memory_not_freed, tally.unavailable_s) == (1, 22.0)


def test_residents_of_all_sessions_are_named_once() -> None:
    """Who was on the GPUs when a session began stands in the tally, also if the next one finds them again."""
    first, second = ("residents", {"processes": ["a", "b"]}), ("residents", {"processes": ["b", "c"]})
    assert applied(first, ("opened", {}), second).residents == ["a", "b", "c"]


def test_other_events_change_nothing() -> None:
    """First starts and the new containers of cold starts are no restarts."""
    assert applied(("service_started", {}), ("renewed", {}), ("gap", {}), ("running", {})) == HealthTally()


def test_run_that_is_continued_goes_on_counting(tmp_path: Path) -> None:
    """The counts of earlier sessions come from the journals; what was unhealthy then is not so now."""
    runs = the_runs(tmp_path)
    first, _ = runs.open(run_info())
    first.note("restart", backend="vllm", cycle=1)
    first.note("unhealthy", backend="vllm", cycle=1, problem="it does not run")
    first.close()
    second, _ = runs.open(run_info())
    second.note("restart", backend="vllm", cycle=2)
    second.close()
    assert second.health == runs.survey(RUN_ID).health == HealthTally(restarts={"vllm": 2})


def test_without_a_cache_the_session_itself_is_counted(tmp_path: Path) -> None:
    """What no journal keeps is still in the summary of the session that saw it."""
    run, _ = replace(the_runs(tmp_path), cache_dir=None).open(run_info())
    run.note("health_check", backend="vllm", cycle=1)
    run.close()
    assert run.health.checks == 1
