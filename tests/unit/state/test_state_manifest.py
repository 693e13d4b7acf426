"""The journal and its folding."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_llem.state.manifest import (
    JOURNAL_SCHEMA_VERSION,
    Event,
    Journal,
    Ledger,
    finished_event,
    fold,
    new_event,
)
from pytest_llem.state.results import DamagedFileError, StorageError
from unit.state.state_samples import BEGIN, a_result

# Each example writes its own files over those of the last one.
on_one_folder = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def running(name: str, attempt: int = 1) -> Event:
    return new_event("running", spec_hash=f"hash of {name}", cycle=1, experiment_id=name, attempt=attempt)


def finished(name: str, attempt: int = 1, *, failed: bool = False) -> Event:
    result = a_result(name, attempt, failed="oom" if failed else None)
    return finished_event(result, f"experiments/{name}/attempt-{attempt}.json", 100)


def lost(name: str, attempt: int = 1) -> Event:
    return running(name, attempt) | {"event": "lost"}


names = st.sampled_from("abcé")
attempts = st.integers(1, 3)
events = st.one_of(
    st.builds(running, names, attempts),
    st.builds(finished, names, attempts, failed=st.booleans()),
    st.builds(lost, names, attempts),
    st.builds(new_event, st.just("gap"), seconds=st.floats(0, 60)),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Return events one second apart."""
    drawn = draw(st.lists(events, min_size=1, max_size=12))
    return [event | {"at": (BEGIN + timedelta(seconds=i)).isoformat()} for i, event in enumerate(drawn)]


def lines(history: list[Event]) -> list[bytes]:
    return [json.dumps(event).encode() + b"\n" for event in history]


def applied(history: list[Event]) -> Ledger:
    ledger = Ledger()
    for event in history:
        ledger.apply(event)
    return ledger


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read_events(path: Path) -> list[Event]:
    return [json.loads(line) for line in path.read_bytes().splitlines() if line]


def test_appended_events_are_lines_below_a_header(tmp_path: Path) -> None:
    """A journal starts with its version and run, then has one line an event with its UTC time."""
    journal = Journal(tmp_path / "main.jsonl", {"run_id": "r"})
    journal.append("gap", seconds=10)
    journal.close()
    header, gap = read_events(tmp_path / "main.jsonl")
    assert header["event"] == "opened"
    assert (header["schema_version"], header["run_id"]) == (JOURNAL_SCHEMA_VERSION, "r")
    assert gap["seconds"] == 10
    assert datetime.fromisoformat(gap["at"]).utcoffset() == timedelta(0)


def test_without_a_path_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session without a cache can append and close as any other, and no file appears."""
    monkeypatch.chdir(tmp_path)
    journal = Journal(None, {})
    journal.append("gap", seconds=10)
    journal.close()
    assert not list(tmp_path.iterdir())


@on_one_folder
@given(histories(), st.data())
def test_any_truncation_folds_to_a_prefix(tmp_path: Path, history: list[Event], data: st.DataObject) -> None:
    """A journal cut at any byte says exactly what its whole lines say, and the torn one is forgiven."""
    whole = lines(history)
    cut = data.draw(st.integers(0, sum(map(len, whole))))
    # A last line that lacks only its line feed is whole.
    kept = sum(1 for i in range(len(whole)) if sum(map(len, whole[: i + 1])) - 1 <= cut)
    ledger = fold([write(tmp_path / "main.jsonl", b"".join(whole)[:cut])])
    assert list(ledger.attempts.items()) == list(applied(history[:kept]).attempts.items())
    assert ledger.damaged_lines == 0


@on_one_folder
@given(histories(), st.data())
def test_a_torn_journal_can_be_continued(tmp_path: Path, history: list[Event], data: st.DataObject) -> None:
    """The next writer of a journal cut at any byte starts on a fresh line; nothing else is lost."""
    whole = b"".join(lines(history))
    path = write(tmp_path / "main.jsonl", whole[: data.draw(st.integers(0, len(whole)))])
    before = fold([path])
    journal = Journal(path, {})
    journal.extend([finished("z")])
    journal.close()
    before.apply(finished("z"))
    assert fold([path]).statuses() == before.statuses()


def test_an_append_whose_sync_failed_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error the next append stands on a line of its own, and nothing counts as damaged."""
    path = tmp_path / "main.jsonl"
    journal = Journal(path, {})

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)  # no disk at hand fails here on demand
        with pytest.raises(StorageError, match="Input/output error; repair"):
            journal.extend([running("a")])
    journal.extend([running("b")])
    journal.close()
    ledger = fold([path])
    assert list(ledger.attempts) == [("a", 1), ("b", 1)]
    assert ledger.damaged_lines == 0


@on_one_folder
@given(histories(), st.data())
def test_a_damaged_line_costs_only_itself(tmp_path: Path, history: list[Event], data: st.DataObject) -> None:
    """A line of garbage in the middle is skipped and counted; all others count."""
    whole = lines(history)
    place = data.draw(st.integers(0, len(whole)))
    garbage = data.draw(
        st.sampled_from([b"{", b"[]", b"\xff\xfe", b"\0\0\0", b"{}", b'{"at": "today"}', b"7"])
    )
    whole.insert(place, garbage + b"\n")
    ledger = fold([write(tmp_path / "main.jsonl", b"".join(whole))])
    assert ledger.attempts == applied(history).attempts
    assert ledger.damaged_lines == 1


@on_one_folder
@given(histories(), st.data())
def test_writers_merge_by_time(tmp_path: Path, history: list[Event], data: st.DataObject) -> None:
    """Events dealt to several writers fold to what one would have written, in any order of the files."""
    hands: dict[str, list[Event]] = {"main": [], "gw0": [], "gw1": []}
    for event in history:
        hands[data.draw(st.sampled_from(sorted(hands)))].append(event)
    paths = [write(tmp_path / f"{name}.jsonl", b"".join(lines(hand))) for name, hand in hands.items()]
    ledger = fold(data.draw(st.permutations(paths)))
    assert list(ledger.attempts.items()) == list(applied(history).attempts.items())


def test_the_order_of_lines_beats_the_clock(tmp_path: Path) -> None:
    """A clock that is set back does not make an old event the latest."""
    early, late = BEGIN, BEGIN + timedelta(hours=1)
    history = [finished("a") | {"at": late.isoformat()}, lost("a") | {"at": early.isoformat()}]
    path = write(tmp_path / "main.jsonl", b"".join(lines(history)))
    assert [status.status for status in fold([path]).attempts.values()] == ["pending"]


def test_an_event_that_lacks_a_field_is_counted_as_damaged(tmp_path: Path) -> None:
    """A line that is JSON but not a whole event of its kind changes nothing."""
    event = finished("a")
    del event["bytes"]
    ledger = fold([write(tmp_path / "main.jsonl", b"".join(lines([event])))])
    assert (ledger.attempts, ledger.damaged_lines) == ({}, 1)


def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """A journal whose events may mean something else is not guessed at."""
    event = new_event("opened", schema_version=JOURNAL_SCHEMA_VERSION + 1)
    path = write(tmp_path / "main.jsonl", b"".join(lines([event])))
    with pytest.raises(DamagedFileError, match="newer version; update pytest-llem"):
        fold([path])


def test_status_of_a_finished_attempt() -> None:
    """A failed attempt is told with its times, its file, its class and its message."""
    (status,) = applied([running("a"), finished("a", failed=True)]).statuses().values()
    assert (status.status, status.failure_kind, status.message) == ("failed", "oom", "it broke")
    assert (status.result, status.size) == ("experiments/a/attempt-1.json", 100)
    assert status.started_at == datetime(2026, 11, 22, 18, 46, 12, tzinfo=UTC)
    assert status.completed_at == datetime(2026, 11, 22, 18, 46, 42, tzinfo=UTC)


@pytest.mark.parametrize(
    ("history", "status", "attempt"),
    [
        ([running("a")], "running", 1),
        ([running("a"), finished("a")], "completed", 1),
        ([finished("a", failed=True), finished("a", 2)], "completed", 2),
        ([finished("a"), finished("a", 2, failed=True)], "failed", 2),
        ([finished("a"), running("a", 2)], "completed", 1),
        ([finished("a"), finished("a", 2), lost("a", 2)], "completed", 1),
        ([finished("a"), lost("a"), running("a")], "running", 1),
        ([finished("a"), lost("a")], "pending", 1),
    ],
)
def test_the_latest_finished_attempt_decides(history: list[Event], status: str, attempt: int) -> None:
    """An experiment stands where its latest finished attempt left it; a killed one does not hide that."""
    (found,) = applied(history).statuses().values()
    assert (found.status, found.attempt) == (status, attempt)


def test_an_attempt_that_is_begun_again_is_the_latest() -> None:
    """A number that is given again, after its result was lost, ranks by its second beginning."""
    renamed = finished("a-float16", failed=True) | {"spec_hash": "hash of a"}
    history = [finished("a"), lost("a"), renamed, running("a"), finished("a")]
    (status,) = applied(history).statuses().values()
    assert (status.status, status.experiment_id) == ("completed", "a")


def test_an_experiment_that_was_renamed_keeps_its_status() -> None:
    """What identifies an experiment is spec hash and cycle, so another id finds the same status."""
    renamed = finished("a-float16") | {"spec_hash": "hash of a"}
    (status,) = applied([finished("a", failed=True), renamed]).statuses().values()
    assert (status.status, status.experiment_id) == ("completed", "a-float16")
