"""What a webhook is told."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from factories import BEGIN, measurement, result
from pytest_llem.analysis.expenses import Bill, SpendingReport
from pytest_llem.analysis.observations import Expected, Observation
from pytest_llem.analysis.summary import Summary, summarise
from pytest_llem.campaign.schema import Confidence, Notify
from pytest_llem.daemon import herald
from pytest_llem.records import Failure
from pytest_llem.reporting.webhook import (
    EVENTS,
    FAILURES,
    TABLE_LINES,
    TEXT_CHARACTERS,
    Ending,
    Status,
    Told,
    payload,
    status_of,
)
from pytest_llem.state.run_info import RunInfo, new_session

PAGE = (Path(__file__).parents[3] / "docs" / "notifications.md").read_text()
TAKEN = Bill(seconds=1872, energy_kwh=0.2, measured_kwh=0.2, unknown_energy_s=0, cost=None, carbon_g=None)
RUN = RunInfo(
    run_id="20261122-184512-x7k2",
    campaign_key="sizes-0a1b2c",
    seed=7,
    created=BEGIN,
    campaign_sha256="f" * 64,
    tool_version="0.1.0",
    cycles=3,
    points={},
    session=new_session(),
)
FAILED = result("pytorch batch_size=64", failed="oom", message="out of\nmemory")


def summary(configurations: int = 1) -> Summary:
    labels = [f"pytorch batch_size={n}" for n in range(configurations)]
    expected = [Expected(f"hash of {label}", label, {"batch_size": label}, 1) for label in labels]
    observations = [Observation.of(result(label, measurement=measurement())) for label in labels]
    return summarise(observations, expected, confidence=Confidence())


TOLD = Told(
    campaign="sizes",
    info=RUN,
    experiments=6,
    remaining=2,
    failed=[FAILED],
    spending=SpendingReport(domains=("gpu",), so_far=TAKEN, in_all=None, stopped_by=None),
    summary=summary(),
    results=Path("/srv/results/sizes-0a1b2c/20261122-184512-x7k2"),
)
STOPPED = replace(TOLD, spending=TOLD.spending.model_copy(update={"stopped_by": "execution.budget_hours"}))


@pytest.mark.parametrize(
    ("exit_code", "told", "status", "event"),
    [
        (0, replace(TOLD, remaining=0), "complete", "complete"),
        (5, replace(TOLD, remaining=0), "complete", "complete"),
        (0, TOLD, "partial", None),
        (0, STOPPED, "budget", "complete"),
        (1, STOPPED, "failed", "failure"),
        (1, replace(TOLD, remaining=0), "failed", "failure"),
        (2, TOLD, "interrupted", "failure"),
        (3, TOLD, "crashed", "failure"),
        (4, TOLD, "not_started", "failure"),
        (77, TOLD, "failed", "failure"),
    ],
)
def test_a_session_ends_as_its_exit_code_says(
    exit_code: int, told: Told, status: Status, event: str | None
) -> None:
    """Success needs exit code 0, and of a part that somebody selected nobody is told."""
    found = status_of(Ending(exit_code, 60, None), told)
    assert (found, EVENTS[found]) == (status, event)


def test_the_message_has_all_that_its_reader_asks() -> None:
    """How it ended, where, how much of it is there, what it took, what failed, and where the results are."""
    found = payload("failure", "failed", Ending(1, 60, None), TOLD)
    expected = {
        "schema_version": 1,
        "event": "failure",
        "status": "failed",
        "campaign": "sizes",
        "run_id": RUN.run_id,
        "exit_code": 1,
        "experiments": 6,
        "completed": 4,
        "failed": 1,
        "remaining": 2,
        "session_s": 60,
        "results": "/srv/results/sizes-0a1b2c/20261122-184512-x7k2",
        "failures": [{"experiment_id": FAILED.experiment_id, "kind": "oom", "message": "out of memory"}],
    }
    assert {name: found[name] for name in expected} == expected
    assert found["spending"]["so_far"]["energy_kwh"] == 0.2
    assert "batch_size=0" in found["table"]
    assert json.loads(json.dumps(found)) == found


def test_the_text_is_a_message_for_people() -> None:
    """The text says in its first line what happened, and has the table in a code block."""
    text = payload("failure", "failed", Ending(1, 60, "stopping after 1 failures"), TOLD)["text"]
    first, *rest = text.splitlines()
    assert first == f"sizes on {RUN.session.hostname}: failed, 4 of 6 experiments completed"
    assert "stopping after 1 failures" in rest
    assert any(line.startswith("spent: 0.52 h") for line in rest)
    assert f"{FAILED.experiment_id}: oom: out of memory" in rest
    assert rest.count("```") == 2
    assert rest[-1].endswith(RUN.run_id)


@pytest.mark.parametrize("configurations", [1, 40, 200])
def test_a_long_campaign_fits_into_a_message(configurations: int) -> None:
    """However many rows and failures there are, text and table have a bound, and say what is left out."""
    failed = FAILED.model_copy(update={"failure": Failure(kind="oom", message="no memory " * 99)})
    long = replace(TOLD, summary=summary(configurations), failed=[failed] * 50)
    found = payload("failure", "failed", Ending(1, 60, "why " * 999), long)
    assert len(found["text"]) <= TEXT_CHARACTERS
    assert len(found["failures"]) == FAILURES
    assert len(found["table"].splitlines()) <= TABLE_LINES + 1
    assert found["text"].count("```") == 2
    assert found["text"].endswith(f"run {RUN.run_id}: {TOLD.results}")
    assert re.search(r"^\.\.\. and \d+ lines more$", found["text"], re.MULTILINE)
    assert ("lines more" in found["table"]) is (configurations > TABLE_LINES)


def test_without_a_summary_there_is_no_table() -> None:
    """A session that never got as far as a result has a message, and no empty table in it."""
    found = payload("failure", "crashed", Ending(3, 60, None), replace(TOLD, summary=None))
    assert found["table"] == ""
    assert "```" not in found["text"]


def test_the_page_describes_the_message() -> None:
    """docs/notifications.md names each field, status and event, and no field that is not there."""
    found = payload("failure", "failed", Ending(1, 60, None), TOLD)
    of_sessions, _, of_daemons = PAGE.partition("## From a daemon")
    table = of_sessions.partition("| field | meaning |")[2]
    named = [
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(named) == sorted(found)
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", of_sessions, re.MULTILINE)
    assert {status: event for event, status in rows} == {s: e for s, e in EVENTS.items() if e}
    assert set(EVENTS) == set(get_args(Status))
    told = re.findall(r"^\| `\w+` \| `(\w+)` \|", of_daemons, re.MULTILINE)
    assert set(told) == set(get_args(herald.Status))
    assert set(Notify().on) == set(EVENTS.values()) - {None}
