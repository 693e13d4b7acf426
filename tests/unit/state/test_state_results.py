"""The store of results."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from pytest_llem.records import RESULT_SCHEMA_VERSION
from pytest_llem.state.results import DamagedFileError, ResultStore, StorageError, atomic_write
from unit.state.state_samples import a_result


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "run")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_result_is_read_back_as_it_was(store: ResultStore) -> None:
    """A result on disk equals the one that was written, and nothing else lies beside it."""
    result = a_result("a")
    path = store.write(result)
    assert store.read(path) == result
    assert files(store.folder) == ["experiments/a/attempt-1.json"] == [store.name_of(path)]


def test_an_attempt_is_never_overwritten(store: ResultStore) -> None:
    """A second result with the number of one on disk is refused and the first stays as it is."""
    path = store.write(a_result("a"))
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"attempt-1\.json: this attempt is on disk already"):
        store.write(a_result("a", failed="oom"))
    assert path.read_bytes() == before


def test_attempts_are_numbered_after_the_highest(store: ResultStore) -> None:
    """The next attempt follows the highest on disk, whether or not that one can be read."""
    assert store.next_attempt("a") == 1
    store.write(a_result("a"))
    store.write(a_result("a", 10)).write_text("{", encoding="utf-8")
    assert store.next_attempt("a") == 11
    assert store.next_attempt("b") == 1


def test_scan_yields_what_is_readable_and_keeps_what_is_not(store: ResultStore) -> None:
    """Every sound attempt is found; a damaged one is reported with its path and stops nothing."""
    good = [store.write(a_result("a")), store.write(a_result("b", 2, failed="timeout"))]
    bad = store.write(a_result("a", 2))
    bad.write_bytes(bad.read_bytes()[:-20])
    assert [path for path, _ in store.scan()] == good
    assert [str(bad) in str(error) for error in store.damaged] == [True]


def test_other_files_are_not_results(store: ResultStore) -> None:
    """Temporary files, traces and notes beside an attempt are not taken for one."""
    path = store.write(a_result("a"))
    for name in (".attempt-2.json.0a1b.tmp", "attempt-3.json.tmp", "attempt-x.json", "trace-1.json"):
        path.with_name(name).write_bytes(path.read_bytes())
    assert list(store.sizes()) == ["experiments/a/attempt-1.json"]
    assert store.next_attempt("a") == 2


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -2])
def test_a_file_that_was_cut_is_damaged(store: ResultStore, keep: int) -> None:
    """A result that lost its end is damaged, unless only the final line feed is gone."""
    path = store.write(a_result("a"))
    path.write_bytes(path.read_bytes()[:keep])
    if keep == -1:
        assert store.read(path) == a_result("a")
    else:
        with pytest.raises(DamagedFileError, match=r"attempt-1\.json is no result"):
            store.read(path)


def test_a_result_of_a_newer_version_is_not_guessed_at(store: ResultStore) -> None:
    """A result with a higher schema version is refused with the advice to update."""
    newer = a_result("a").model_copy(update={"schema_version": RESULT_SCHEMA_VERSION + 1})
    with pytest.raises(DamagedFileError, match="update pytest-llem"):
        store.read(store.write(newer))


def test_a_result_in_the_wrong_place_is_damaged(store: ResultStore) -> None:
    """A result that was copied to another attempt's file does not count as that attempt."""
    path = store.write(a_result("a"))
    copy = path.with_name("attempt-2.json")
    copy.write_bytes(path.read_bytes())
    with pytest.raises(DamagedFileError, match="holds attempt 1 at 'a'"):
        store.read(copy)


def test_a_missing_file_is_damaged(store: ResultStore) -> None:
    """Reading a file that is gone says so, with its path."""
    path = store.path_of("a", 1)
    with pytest.raises(DamagedFileError, match=r"attempt-1\.json cannot be read: No such file"):
        store.read(path)


def test_sweep_removes_temporary_files_only(store: ResultStore) -> None:
    """What dead writers left is cleared, beside results and beside experiments; nothing else is touched."""
    path = store.write(a_result("a"))
    store.write_text("summary.csv", "x\n")
    for folder in (store.folder, path.parent):
        (folder / ".attempt-1.json.0a1b2c3d.tmp").write_bytes(b"{")
    store.sweep()
    assert files(store.folder) == ["experiments/a/attempt-1.json", "summary.csv"]


def test_json_beside_the_results_replaces_the_old(store: ResultStore) -> None:
    """A summary is rewritten as a whole, and numbers that JSON does not know are refused before that."""
    store.write_json("summary.json", {"n": 1})
    path = store.write_json("summary.json", {"n": 2})
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json("summary.json", {"n": float("nan")})
    assert path.read_text(encoding="utf-8") == '{\n  "n": 2\n}\n'
    assert files(store.folder) == ["summary.json"]


def test_a_rename_that_fails_leaves_no_temporary_file(tmp_path: Path) -> None:
    """If the rename is refused, here by a folder of that name, no other file stays; the error says where."""
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*summary\.json: Is a directory; repair"):
        atomic_write(tmp_path / "summary.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_disk_that_is_full_only_at_the_sync_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that allocates late and refuses at fsync costs nothing that was there before."""
    path = tmp_path / "summary.json"
    atomic_write(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), descriptor)

    monkeypatch.setattr(os, "fsync", full)  # no file system at hand fails here on demand
    with pytest.raises(StorageError, match="No space left on device; free some space and continue with --lf"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_folder_that_cannot_sync_its_names_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network file systems that refuse to sync a folder (EINVAL) can still hold results."""
    sync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    atomic_write(tmp_path / "summary.json", b"{}")
    assert (tmp_path / "summary.json").read_bytes() == b"{}"
