"""`notify`: a webhook is told how a session ended, and its address nowhere."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver import SECRET, Receiver, receiving
from runs import run_folders
from sessions import start_session, wait_until

Campaign = Callable[..., Path]

NOTIFY = "notify: {webhook_url: '${LLEM_WEBHOOK}'}\n"
MOODY = "backends: [abacus]\nbackend_overrides: {abacus: {mood_file: mood}}\n"
IMPATIENT = """
from functools import partial
from pytest_llem import notify_plugin

notify_plugin.send = partial(notify_plugin.send, deadline_s=0.3)
"""
"""A conftest.py that shortens the 10 s."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A server whose address is in the environment of sessions."""
    with receiving() as found:
        monkeypatch.setenv("LLEM_WEBHOOK", found.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield found


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--campaign=grid.yaml", *options)


def only(receiver: Receiver) -> dict[str, Any]:
    (message,) = receiver.messages
    return message


def not_delivered(done: pytest.RunResult) -> str:
    (line,) = [line for line in done.stdout.lines if line.startswith("notification not delivered")]
    return line


@pytest.mark.key("notify.webhook_url")
def test_a_complete_campaign_is_told(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver
) -> None:
    """With an address one message says that all is there, with the table and the place; without one nobody asks."""
    campaign()
    run(pytester)
    assert receiver.messages == []
    campaign(NOTIFY)
    done = run(pytester, "--campaign-set", "window.passes=50")
    assert done.ret == 0
    done.stdout.fnmatch_lines([f"notify: {receiver.origin}/* on complete and failure"])
    message = only(receiver)
    assert (message["event"], message["status"], message["exit_code"]) == ("complete", "complete", 0)
    assert (message["experiments"], message["completed"], message["remaining"]) == (4, 4, 0)
    assert Path(message["results"]) == run_folders(pytester.path)[-1]
    assert "batch_size=1" in message["table"]
    assert message["table"].splitlines()[0] in message["text"]
    assert message["spending"]["so_far"]["energy_kwh"] > 0


def test_a_failure_is_told(pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver) -> None:
    """A failed experiment is named with its class and message."""
    campaign(NOTIFY, grid=MOODY)
    (pytester.path / "mood").write_text("pass-raise")
    assert run(pytester).ret == pytest.ExitCode.TESTS_FAILED
    message = only(receiver)
    assert (message["event"], message["status"], message["failed"]) == ("failure", "failed", 2)
    assert [failure["kind"] for failure in message["failures"]] == ["crashed", "crashed"]
    assert "a bead fell off" in message["failures"][0]["message"]


@pytest.mark.key("notify.on")
def test_only_what_was_asked_for_is_told(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver
) -> None:
    """`on: [failure]` keeps quiet about success, `on: [complete]` about failure."""
    campaign(NOTIFY, grid=MOODY)
    run(pytester, "--campaign-set", "notify.on=[failure]")
    (pytester.path / "mood").write_text("pass-raise")
    run(pytester, "--campaign-set", "notify.on=[complete]")
    assert receiver.messages == []
    run(pytester, "--campaign-set", "notify.on=[failure]")
    assert only(receiver)["event"] == "failure"


def test_over_budget_is_a_failure_and_a_run_budget_is_not(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver
) -> None:
    """`expect` that is not kept fails the session; a run that stops at its budget did what was asked."""
    campaign(NOTIFY)
    run(pytester, "--campaign-set", "expect.output_tokens_per_second.min=1e12")
    run(pytester, "--campaign-set", "execution.budget_hours=1e-9")
    assert [(m["event"], m["status"]) for m in receiver.messages] == [
        ("failure", "failed"),
        ("complete", "budget"),
    ]
    assert receiver.messages[1]["reason"].startswith("execution.budget_hours")
    assert receiver.messages[1]["remaining"] == 2


@pytest.mark.parametrize(
    ("hook", "status"),
    [
        ("pytest_sessionstart(): pytest.exit('no host')", "interrupted"),
        ("pytest_collection_modifyitems(): raise OSError('no host')", "crashed"),
    ],
)
def test_an_end_before_the_first_item_is_told(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver, hook: str, status: str
) -> None:
    """A plugin that ends the session at its start or while it collects is told of, with what it said."""
    campaign(NOTIFY)
    pytester.makeconftest(f"import pytest\ndef {hook}\n")
    run(pytester)
    message = only(receiver)
    assert (message["event"], message["status"], message["reason"]) == ("failure", status, "no host")
    assert message["remaining"] == 4


def test_who_tries_something_is_left_alone(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver
) -> None:
    """A collection and a selection that passes are told nobody."""
    campaign(NOTIFY)
    run(pytester, "--collect-only")
    run(pytester, "-k", "c1").assert_outcomes(passed=2, deselected=2)
    assert receiver.messages == []


def test_a_worker_of_xdist_tells_nothing(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver
) -> None:
    """Under -n 1 there is one message, from the controller."""
    campaign(NOTIFY)
    run(pytester, "-n", "1")
    assert only(receiver)["completed"] == 4


def test_what_is_not_there_is_told(pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver) -> None:
    """A session that could not start says what it lacks."""
    campaign(NOTIFY)
    assert run(pytester, "--campaign-set", "gpus=[99]").ret == pytest.ExitCode.USAGE_ERROR
    message = only(receiver)
    assert (message["event"], message["status"]) == ("failure", "not_started")
    assert "99" in message["reason"]


@pytest.mark.parametrize("hook", ["pytest_runtest_protocol(item)", "pytest_sessionfinish(session)"])
def test_a_crash_is_told(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver, hook: str
) -> None:
    """An error in a plugin, in the middle or at the end, is a failure with its words."""
    campaign(NOTIFY)
    pytester.makeconftest(f"def {hook}: raise RuntimeError('a plugin of mine')")
    assert run(pytester).ret != 0
    message = only(receiver)
    assert (message["event"], message["status"]) == ("failure", "crashed")
    assert "a plugin of mine" in message["reason"]


def test_an_interrupted_session_tells_when_all_is_on_disk(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver
) -> None:
    """SIGTERM in the middle is told as a failure, when the summary has been written."""
    campaign(NOTIFY, grid=MOODY)
    (pytester.path / "mood").write_text("pass-hang")
    session = start_session(pytester.path, "grid.yaml")
    wait_until(lambda: list(pytester.path.rglob("*.jsonl")), "the session has begun")
    wait_until(
        lambda: any('"running"' in path.read_text() for path in pytester.path.rglob("*.jsonl")),
        "an experiment runs",
    )
    session.send_signal(signal.SIGTERM)
    output, _ = session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.INTERRUPTED, output
    message = only(receiver)
    assert (message["event"], message["status"], message["remaining"]) == ("failure", "interrupted", 2)
    assert (Path(message["results"]) / "summary.json").exists()


@pytest.mark.parametrize("manner", ["hang", "drip", "refuse", "fail", "redirect"])
def test_nobody_hears_and_the_session_is_as_before(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver, manner: str
) -> None:
    """Whatever the receiver does, one line says it, the table is there, and the exit code is 0."""
    receiver.manner, receiver.location = manner, f"{receiver.origin}/other/{SECRET}"
    pytester.makeconftest(IMPATIENT)
    campaign(NOTIFY)
    done = run(pytester)
    assert done.ret == 0
    assert not_delivered(done).startswith(f"notification not delivered to {receiver.origin}/…: ")
    assert len(receiver.requests) == 1
    assert SECRET not in done.stdout.str() + done.stderr.str()


def test_a_closed_port_costs_one_line(
    pytester: pytest.Pytester, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody listens the session ends as if nobody was to be told."""
    monkeypatch.setenv("LLEM_WEBHOOK", f"http://127.0.0.1:9/{SECRET}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    campaign(NOTIFY)
    done = run(pytester)
    assert done.ret == 0
    assert "Connection refused" in not_delivered(done)


@pytest.mark.parametrize("manner", ["take", "refuse"])
def test_the_address_is_nowhere(
    pytester: pytest.Pytester, campaign: Campaign, receiver: Receiver, manner: str
) -> None:
    """No file of the run and of the cache, and no line with all that pytest can show, has more than the host."""
    receiver.manner = manner
    campaign(NOTIFY, grid=MOODY)
    (pytester.path / "mood").write_text("pass-raise")
    pytester.makeconftest("def pytest_sessionfinish(session): raise RuntimeError('show all locals')")
    reports = ("--junitxml=junit.xml", "--json-report", "--json-report-file=report.json")
    by_option = ("--campaign-set", f"notify.webhook_url={receiver.url}") if manner == "refuse" else ()
    done = run(pytester, "-vv", "--showlocals", "--full-trace", "-rA", *reports, *by_option)
    collected = run(pytester, "--collect-only", "-v")
    for output in (done, collected):
        assert SECRET not in output.stdout.str() + output.stderr.str()
    own = {"stdout", "stderr"}
    files = [path for path in pytester.path.rglob("*") if path.is_file() and path.name not in own]
    assert any(path.name == "campaign.yaml" for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    resolved = next(path for path in files if path.name == "campaign.yaml").read_text()
    assert "webhook_url: <not written>" in resolved


@pytest.mark.parametrize(
    "address", [f"hooks.example.org/{SECRET}", f"https://hooks.example.org/{SECRET} x", f"ftp://h/{SECRET}"]
)
def test_a_wrong_address_is_not_repeated(
    pytester: pytest.Pytester, campaign: Campaign, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """A slip in the address is a usage error that says what one looks like, and not what was written."""
    monkeypatch.setenv("LLEM_WEBHOOK", address)
    campaign(NOTIFY)
    done = run(pytester)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(
        ["*notify.webhook_url: this is no address: write one that starts with https://*"]
    )
    assert SECRET not in done.stdout.str() + done.stderr.str()


def test_an_event_without_an_address_is_noted(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """`notify.on` alone does nothing, and the header says so."""
    campaign("notify: {on: [failure]}\n")
    done = run(pytester, "--collect-only")
    done.stdout.fnmatch_lines(["note: notify.on has no effect without notify.webhook_url"])
