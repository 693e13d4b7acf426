"""The account of a series on disk, and the two locks."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.daemon import series as account
from pytest_llem.daemon.assignment import Assignment, CampaignChangedError
from pytest_llem.daemon.locks import DaemonBusyError, DaemonLock, Leash
from pytest_llem.daemon.series import Round, Series, SeriesError

TIMES = st.floats(1.5e9, 2e9).map(lambda moment_s: round(moment_s, 3))
ROUNDS = st.builds(
    Round,
    number=st.integers(1, 1000),
    run_id=st.just("20261122-184512-x7k2"),
    due=TIMES,
    started_at=TIMES,
    outcome=st.sampled_from(["running", "passed", "failed", "crashed", "interrupted", "cut"]),
    ended_at=st.none() | TIMES,
    ran_s=st.floats(0, 1e6),
    exit_code=st.none() | st.integers(-9, 5),
)
SERIES = st.builds(
    Series,
    id=st.just("20261122-184512-x7k2"),
    campaign=st.text(),
    campaign_sha256=st.text("0123456789abcdef"),
    points_sha256=st.text("0123456789abcdef"),
    executor=st.sampled_from(["local", "compose"]),
    first_start=TIMES,
    ended=st.booleans(),
    rounds=st.lists(ROUNDS, max_size=5),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("series")


@given(SERIES)
def test_what_is_written_is_read(folder: Path, series: Series) -> None:
    """An account comes back as it was, and nothing lies beside it."""
    account.write(folder, series)
    assert account.read(folder) == series
    assert [path.name for path in folder.iterdir()] == [account.SERIES_FILE]


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (0, "passed"),
        (3, "ended with pytest's exit code 3"),
        (127, "ended with pytest's exit code 127"),
        (-9, "killed by SIGKILL"),
        (-40, "killed by signal 40"),
        (None, "could not be started"),
    ],
)
def test_how_a_round_ended_is_said_in_words(exit_code: int | None, words: str) -> None:
    """Exit codes, signals with a name and without one, and a process that never was, have words of their own."""
    over = Round(1, "20261122-184512-x7k2", due=0, started_at=0)
    over.end(60, 60, exit_code, None)
    assert over.how() == words


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "name the folder of a series"),
        ("{", "cannot be read"),
        ('{"schema_version": 1}', "cannot be read"),
        ('{"schema_version": 99}', "update pytest-llem"),
    ],
)
def test_what_is_no_account_is_refused(tmp_path: Path, text: str | None, why: str) -> None:
    """A missing, torn, foreign or newer file is named with what to do."""
    if text is not None:
        (tmp_path / account.SERIES_FILE).write_text(text)
    with pytest.raises(SeriesError, match=why) as caught:
        account.read(tmp_path)
    assert account.SERIES_FILE in str(caught.value)


def test_the_newest_series_of_a_campaign_is_found(tmp_path: Path) -> None:
    """A series is found by its own folder or by that of the campaign's results, which has runs beside it."""
    for name in ("20260101-000000-aaaa", "20260102-000000-aaaa"):
        folder = tmp_path / account.SERIES_FOLDER / name
        folder.mkdir(parents=True)
        account.write(folder, Series(name, "toy", "a", "b", "local", 0.0))
    assert account.find(tmp_path) == folder
    assert account.find(folder) == folder
    with pytest.raises(SeriesError):
        account.find(tmp_path / account.SERIES_FOLDER / "elsewhere")


def test_an_assignment_passes_through_the_environment() -> None:
    """What a daemon says is what the round hears; nobody else hears anything."""
    assigned = Assignment("s", 2, "r", "abc", "def", "local", "leash", "told")
    assert Assignment.of(assigned.environment()) == assigned
    assert Assignment.of({}) is None


def test_a_round_of_something_else_is_refused() -> None:
    """An edited campaign and other points are refused, each with what has changed since the series began."""
    assigned = Assignment("s", 2, "r", "abc", "def", "local", "leash", "told")
    assigned.check_campaign("abc")
    assigned.check_points("def")
    with pytest.raises(CampaignChangedError, match="the campaign has changed since series s"):
        assigned.check_campaign("abd")
    with pytest.raises(CampaignChangedError, match=r"\(by prompts, .*\) has changed since series s"):
        assigned.check_points("deg")


def test_a_campaign_has_one_daemon(tmp_path: Path) -> None:
    """The second is told who is the first, and can begin when that one is gone."""
    first = DaemonLock(tmp_path / "lock")
    with pytest.raises(
        DaemonBusyError, match=f"process {json.loads((tmp_path / 'lock').read_text())['pid']} on "
    ):
        DaemonLock(tmp_path / "lock")
    first.close()
    DaemonLock(tmp_path / "lock").close()


WATCHER = """
import sys
from pytest_llem.daemon.locks import wait_for_release
print("ready", flush=True)
held = wait_for_release(sys.argv[1])
print("released", flush=True)
sys.stdin.read()
"""


def test_the_leash_tells_a_round_and_then_keeps_the_next_daemon_waiting(tmp_path: Path) -> None:
    """A round hears that the daemon let go, and the leash cannot be taken again before it is gone."""
    leash = Leash(tmp_path / "leash")
    assert leash.take()
    command = [sys.executable, "-c", WATCHER, str(leash.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdin is not None
        assert watcher.stdout.readline() == "ready\n"
        with leash.path.open() as another, pytest.raises(BlockingIOError):
            fcntl.flock(another, fcntl.LOCK_SH | fcntl.LOCK_NB)
        leash.let_go()
        assert watcher.stdout.readline() == "released\n"
        successor = Leash(tmp_path / "leash")
        assert not successor.take()
        watcher.stdin.close()
        watcher.wait()
        assert successor.take()
        successor.let_go()
