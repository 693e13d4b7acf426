"""Slots between real processes: who waits for whom, and what a killed holder leaves."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import pytest

from pytest_llem.executors import slots
from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.slots import CPU, Slot, holder_of
from sessions import hear_ctrl_c

HOLD = """
import sys
from pytest_llem.executors.slots import Slot
campaign, *names = sys.argv[1:]
slot = Slot(names, campaign)
slot.acquire(lambda words: print(words, flush=True), poll_s=0.01)
print("held", flush=True)
sys.stdin.readline()
slot.release()
print("released", flush=True)
"""
TAKE_TURNS = """
import os, sys
from pytest_llem.executors.slots import Slot
for _ in range(30):
    slot = Slot(sys.argv[2:], "turns")
    slot.acquire(lambda words: None, poll_s=0.001)
    with open(sys.argv[1], "a") as diary:
        print("in", os.getpid(), file=diary, flush=True)
        print("out", os.getpid(), file=diary, flush=True)
    slot.release()
"""
HOLD_WITH_CHILD = """
import subprocess, sys
from pytest_llem.executors.slots import Slot
slot = Slot(["GPU-a"], "parent")
slot.acquire(print)
child = subprocess.Popen([sys.executable, "-c", "input()"], close_fds=False)
print(child.pid, flush=True)
child.wait()
"""
GIVE_BACK_AFTER_FORK = """
import os, signal
from pytest_llem.executors.slots import Slot
slot = Slot(["GPU-a"], "parent")
slot.acquire(print)
child = os.fork()
if child == 0:
    signal.pause()
slot.release()
print(child, flush=True)
os.waitpid(child, 0)
"""
HOLD_AS_ANOTHER_USER = """
import os, sys
os.umask(0o077)
from pytest_llem.executors.slots import Slot
os.setgroups([]); os.setgid(65534); os.setuid(65534)
slot = Slot(["GPU-a"], "theirs")
try:
    slot.acquire(print)
except Exception as error:
    print(type(error).__name__, error)
else:
    print("held", flush=True)
    sys.stdin.readline()
"""
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play two users")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test slots of its own."""
    monkeypatch.setenv(slots.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a process with this code; all are gone after the test."""
    with contextlib.ExitStack() as ends:

        def start(code: str, *arguments: str) -> subprocess.Popen[str]:
            child = ends.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", code, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    preexec_fn=hear_ctrl_c,  # noqa: PLW1509 - takes no lock
                )
            )
            ends.callback(child.kill)
            return child

        yield start


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().rstrip("\n")


def let_go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def take(*names: str) -> Slot:
    """Take a slot that is free; one that is not is an error here."""
    slot = Slot(names, "mine")
    slot.acquire(pytest.fail)
    return slot


def test_the_second_session_waits_and_says_for_whom(start: Start) -> None:
    """A slot that is held is waited for with process, user, campaign and time of its holder in words."""
    first = start(HOLD, "first.yaml", "GPU-a")
    assert line(first) == "held"
    second = start(HOLD, "second.yaml", "GPU-a")
    user = re.escape(pwd.getpwuid(os.geteuid()).pw_name)
    assert re.fullmatch(
        rf"waiting for GPU-a: held by {user} \(process {first.pid} on .+, campaign first.yaml\)"
        r" since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC",
        line(second),
    )
    let_go(first)
    assert line(first) == "released"
    while (words := line(second)) != "held":
        assert words.startswith("waiting for GPU-a")
    assert f"process {second.pid} on" in str(holder_of("GPU-a"))


def test_sessions_on_other_gpus_run_at_the_same_time(start: Start) -> None:
    """Only sessions that need the same GPU wait; the CPU's slot is one more, taken by those without a GPU."""
    sessions = [start(HOLD, "one.yaml", "GPU-a", "GPU-b"), start(HOLD, "two.yaml", "GPU-c")]
    sessions += [start(HOLD, "three.yaml")]
    assert [line(session) for session in sessions] == ["held"] * 3
    assert f"process {sessions[2].pid} on" in str(holder_of(CPU))


def test_one_shared_gpu_is_enough_to_wait(start: Start) -> None:
    """Groups that overlap in one GPU are never held together."""
    assert line(start(HOLD, "pair.yaml", "GPU-b", "GPU-a")) == "held"
    assert line(start(HOLD, "other.yaml", "GPU-c", "GPU-b")).startswith("waiting for GPU-b: held by")


def test_a_killed_holder_leaves_a_free_slot(start: Start) -> None:
    """SIGKILL of the holder gives the slot to the one who waits, and its words name nobody any more."""
    first = start(HOLD, "first.yaml", "GPU-a")
    assert line(first) == "held"
    second = start(HOLD, "second.yaml", "GPU-a")
    assert line(second).startswith("waiting")
    first.kill()
    while (words := line(second)) != "held":
        assert words.startswith("waiting for GPU-a")
    second.kill()
    second.wait()
    assert holder_of("GPU-a") is None
    take("GPU-a").release()


def test_locks_are_taken_in_one_order_however_they_are_named() -> None:
    """Who waits for the first GPU of a pair does not hold the second, or two sessions could wait for each other."""
    first = take("GPU-a")
    seconds_holder: list[str | None] = []

    def look(_: str) -> None:
        seconds_holder.append(holder_of("GPU-b"))
        first.release()

    pair = Slot(["GPU-b", "GPU-a"], "pair")
    pair.acquire(look, poll_s=0.01)
    pair.release()
    assert seconds_holder == [None]


def test_many_who_wait_take_turns(start: Start, tmp_path: Path) -> None:
    """However many sessions want overlapping groups, in whatever order, one at a time has them, and all end."""
    diary = tmp_path / "diary"
    groups = [("GPU-a", "GPU-b"), ("GPU-b", "GPU-a"), ("GPU-b", "GPU-c", "GPU-a")]
    sessions = [start(TAKE_TURNS, str(diary), *group) for group in groups]
    assert [session.wait(60) for session in sessions] == [0, 0, 0]
    lines = [words.split() for words in diary.read_text().splitlines()]
    assert [what for what, _ in lines] == ["in", "out"] * 90
    assert all(came_in == went_out for (_, came_in), (_, went_out) in zip(*[iter(lines)] * 2, strict=True))


def test_ctrl_c_while_waiting_gives_back_what_was_taken(start: Start) -> None:
    """Who waits for the second GPU of a pair and is interrupted no longer holds the first."""
    assert line(start(HOLD, "first.yaml", "GPU-b")) == "held"
    second = start(HOLD, "second.yaml", "GPU-a", "GPU-b")
    assert line(second).startswith("waiting for GPU-b")
    assert holder_of("GPU-a") is not None
    second.send_signal(signal.SIGINT)
    assert second.wait(30) != 0
    take("GPU-a").release()


def test_an_interrupted_wait_leaves_nothing_held_in_this_process() -> None:
    """A `KeyboardInterrupt` out of the wait passes, with every lock of the slot given back."""

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    holding = take("GPU-b")
    with pytest.raises(KeyboardInterrupt):
        Slot(["GPU-a", "GPU-b"], "pair").acquire(interrupt)
    holding.release()
    take("GPU-a", "GPU-b").release()


def test_a_child_of_the_holder_does_not_hold(start: Start) -> None:
    """What a killed session started and left behind does not keep its slot."""
    holder = start(HOLD_WITH_CHILD)
    orphan = int(line(holder))
    try:
        assert holder_of("GPU-a") is not None
        holder.kill()
        holder.wait()
        os.kill(orphan, 0)
        take("GPU-a").release()
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_a_slot_given_back_is_free_though_a_fork_still_has_its_file(start: Start) -> None:
    """A forked child, which inherits open files, cannot keep a slot that the session gave back."""
    forked = int(line(start(GIVE_BACK_AFTER_FORK)))
    try:
        take("GPU-a").release()
        os.kill(forked, 0)
    finally:
        os.kill(forked, signal.SIGKILL)


def test_the_same_gpu_named_twice_is_one_slot() -> None:
    """A session does not wait for itself."""
    take("GPU-a", "GPU-a").release()


def test_a_partition_named_with_slashes_has_a_slot(folder: Path) -> None:
    """The older names of MIG partitions contain slashes and lock like any other."""
    slot = take("MIG-GPU-a/1/0")
    assert holder_of("MIG-GPU-a/1/0") is not None
    assert [path.name for path in folder.iterdir()] == ["MIG-GPU-a_1_0.lock"]
    slot.release()
    assert holder_of("MIG-GPU-a/1/0") is None


def test_who_waits_is_told_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait of three seconds is told at once and after each second, however often it tries."""
    clock_s = [100.0]
    told_s: list[float] = []
    holding = take("GPU-a")

    def sleep(seconds: float) -> None:
        clock_s[0] += seconds
        if clock_s[0] >= 102.75:
            holding.release()

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock_s[0])
    slot = Slot(["GPU-a"], "waits")
    slot.acquire(lambda _: told_s.append(clock_s[0]), poll_s=0.25)
    slot.release()
    assert told_s == [100.0, 101.0, 102.0]


def test_the_default_folder_is_for_all_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first who holds a slot makes folder and file, writable for all and sticky, whatever the umask is."""
    monkeypatch.delenv(slots.FOLDER_VARIABLE)
    monkeypatch.setattr(slots, "DEFAULT_FOLDER", tmp_path / "slots")
    assert holder_of("GPU-a") is None
    assert not (tmp_path / "slots").exists()
    before = os.umask(0o077)
    try:
        take("GPU-a").release()
        take("GPU-a").release()
    finally:
        os.umask(before)
    assert (tmp_path / "slots").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "slots" / "GPU-a.lock").stat().st_mode & 0o7777 == 0o1666


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test slots that another user reaches too; pytest's own folders are this user's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        monkeypatch.setenv(slots.FOLDER_VARIABLE, folder)
        yield Path(folder)


@AS_ROOT
def test_two_users_share_the_slots(common: Path, start: Start) -> None:
    """Whichever user's session made a slot's file, the other user's session waits for it and then takes it."""
    theirs = start(HOLD_AS_ANOTHER_USER)
    assert line(theirs) == "held"
    ours = start(HOLD, "ours.yaml", "GPU-a")
    other = pwd.getpwuid(65534).pw_name
    assert line(ours).startswith(f"waiting for GPU-a: held by {other} (process {theirs.pid} on")
    theirs.kill()
    while (words := line(ours)) != "held":
        assert words.startswith("waiting for GPU-a")
    ours.kill()
    ours.wait()
    assert line(start(HOLD_AS_ANOTHER_USER)) == "held"


@AS_ROOT
def test_a_folder_that_may_not_be_written_is_named(common: Path, start: Start) -> None:
    """A session that may not lock says which folder it is, why, and what to set."""
    common.chmod(0o755)
    words = line(start(HOLD_AS_ANOTHER_USER))
    assert f"ExecutorError the slots' folder {common} cannot be used" in words
    assert "Permission denied): set LLEM_SLOTS_DIR to an existing folder" in words


@pytest.mark.parametrize(("kind", "reason"), [("missing", "No such file"), ("file", "Not a directory")])
def test_a_folder_that_is_none_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    """A mistyped LLEM_SLOTS_DIR is an error: a folder made in its place would be one nobody else looks into."""
    (folder / "file").touch()
    monkeypatch.setenv(slots.FOLDER_VARIABLE, str(folder / kind))
    with pytest.raises(ExecutorError, match=f"the slots' folder .*{kind} cannot be used .{reason}"):
        take("GPU-a")
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert holder_of("GPU-a") is None


def test_a_link_in_the_place_of_a_lock_is_refused(folder: Path) -> None:
    """Another user's link does not make a session write into the file that it leads to."""
    (folder / "precious").write_text("precious")
    (folder / "GPU-a.lock").symlink_to("precious")
    with pytest.raises(ExecutorError, match="its file for GPU-a: Too many levels of symbolic links"):
        take("GPU-a")
    assert holder_of("GPU-a") is None
    assert (folder / "precious").read_text() == "precious"


def test_a_link_in_the_place_of_the_default_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's link in /tmp does not lead the locks elsewhere."""
    monkeypatch.delenv(slots.FOLDER_VARIABLE)
    monkeypatch.setattr(slots, "DEFAULT_FOLDER", tmp_path / "link")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(ExecutorError, match="Not a directory"):
        take("GPU-a")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_pipe_in_the_place_of_a_lock_is_not_waited_for(folder: Path) -> None:
    """Asking for the holder returns even if another user put a pipe there."""
    os.mkfifo(folder / "GPU-a.lock")
    assert holder_of("GPU-a") is None


def test_words_of_others_cannot_write_on_the_terminal(folder: Path) -> None:
    """Control characters in what another user wrote about itself are not shown."""
    slot = take("GPU-a")
    (folder / "GPU-a.lock").write_bytes(b"eve\x1b[2J\xff")
    assert holder_of("GPU-a") == "eve[2J\ufffd"
    slot.release()


def test_a_campaign_with_an_undecodable_name_is_no_obstacle() -> None:
    """A path that is no text, as a file system may have it, is shown with a mark in its place."""
    slot = Slot(["GPU-a"], "caf\udce9.yaml")
    slot.acquire(pytest.fail)
    assert "campaign caf?.yaml" in str(holder_of("GPU-a"))
    slot.release()


def test_a_file_removed_while_it_is_being_locked_is_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on a file that no other session can find any more is none."""
    lock = fcntl.flock

    def remove_and_lock(file: FileIO, kind: int) -> None:
        monkeypatch.undo()
        monkeypatch.setenv(slots.FOLDER_VARIABLE, str(folder))
        (folder / "GPU-a.lock").unlink()
        lock(file, kind)

    monkeypatch.setattr(fcntl, "flock", remove_and_lock)
    slot = Slot(["GPU-a"], "mine")
    slot.acquire(lambda _: None, poll_s=0.01)
    assert "campaign mine" in str(holder_of("GPU-a"))
    slot.release()


def test_a_file_removed_under_a_waiting_session_is_made_anew(folder: Path) -> None:
    """Who waits on a file that a cleaner removes holds the slot by the file that all others will see."""
    first = take("GPU-a")
    second = Slot(["GPU-a"], "second")

    def remove(_: str) -> None:
        (folder / "GPU-a.lock").unlink()
        first.release()

    second.acquire(remove, poll_s=0.01)
    assert "campaign second" in str(holder_of("GPU-a"))
    second.release()


def test_a_disk_without_room_costs_the_words_and_not_the_lock(start: Start) -> None:
    """Where the words cannot be written the slot is held all the same."""
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    assert line(start(limited + HOLD, "first.yaml", "GPU-a")) == "held"
    assert line(start(HOLD, "second.yaml", "GPU-a")) == "waiting for GPU-a: held by another session"
    assert holder_of("GPU-a") == "another session"
