"""Runs: their ids, their lock, and what a session finds when it continues one."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.records import Result
from pytest_llem.state.manifest import Status
from pytest_llem.state.results import DamagedFileError
from pytest_llem.state.run import Runs, Standing
from pytest_llem.state.run_id import new_run_id
from pytest_llem.state.run_info import compare, new_session
from unit.state.state_samples import BEGIN, RUN_ID, a_result, run_info, the_runs


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return the_runs(tmp_path)


def record(runs: Runs, *results: Result) -> None:
    """Write `results` in one session."""
    run, _ = runs.open(run_info())
    for result in results:
        run.begin(result.experiment_id, result.spec_hash, result.cycle)
        run.record(result)
    run.close()


def reopen(runs: Runs) -> Standing:
    """Return what the next session finds."""
    run, standing = runs.open(run_info())
    run.close()
    return standing


def status(standing: Standing, name: str) -> Status:
    return standing.statuses[f"hash of {name}", 1]


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(
    st.integers(946684800, 4102444800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=400)),
    st.integers(-12, 12),
)
def test_run_ids_sort_by_time(first: datetime, later: timedelta, offset: int) -> None:
    """A run that began a millisecond later has the greater id, wherever its clock stands."""
    second = (first + later).astimezone(timezone(timedelta(hours=offset)))
    assert new_run_id(first, Random(0)) < new_run_id(second, Random(1))


def test_a_run_id_reads_as_its_utc_time() -> None:
    """The id shows when the run began, and four letters that keep two runs of one second apart."""
    assert new_run_id(BEGIN, Random(0)).startswith("20261122-184512-")
    assert len({new_run_id(BEGIN, Random(seed)) for seed in range(20)}) == 20


def test_the_newest_run_with_a_result_is_found_without_a_cache(runs: Runs) -> None:
    """The newest run that has a result is the one to continue; empty ones, stray folders and files are not."""
    assert runs.newest() is None
    home = runs.results_dir / runs.campaign_key
    (home / "20250101-000000-aaaa" / "experiments").mkdir(parents=True)
    (home / "20990101-000000-aaaa").mkdir()
    (home / "zzz-notes" / "experiments").mkdir(parents=True)
    assert runs.newest() == "20250101-000000-aaaa"
    record(runs, a_result("a"))
    assert runs.newest() == RUN_ID
    assert runs.cache_dir
    shutil.rmtree(runs.cache_dir)
    assert runs.newest() == RUN_ID
    assert Runs(None, runs.results_dir, runs.campaign_key).newest() == RUN_ID
    assert Runs(runs.cache_dir, runs.results_dir, "another-campaign").newest() is None


def test_a_session_continues_where_the_last_one_stopped(runs: Runs) -> None:
    """Completed and failed experiments are found; the one that was interrupted has yet to run."""
    run, before = runs.open(run_info())
    assert before.statuses == {}
    for result in (a_result("a"), a_result("b", failed="oom")):
        run.begin(result.experiment_id, result.spec_hash, 1)
        run.record(result)
    assert run.begin("c", "hash of c", 1) == 1
    run.close()
    standing = reopen(runs)
    assert list(standing.having("completed")) == [("hash of a", 1)]
    assert list(standing.having("failed")) == [("hash of b", 1)]
    assert status(standing, "c").status == "running"
    assert standing.corrections == []
    assert list(standing.load_completed()) == [a_result("a")]


def test_a_result_without_its_line_counts(runs: Runs) -> None:
    """A session killed between a result and its journal line loses nothing; the line is made up once."""
    run, _ = runs.open(run_info())
    run.begin("a", "hash of a", 1)
    run.results.write(a_result("a"))
    run.close()
    standing = reopen(runs)
    assert status(standing, "a").status == "completed"
    assert [event["event"] for event in standing.corrections] == ["completed"]
    assert reopen(runs).corrections == []


@pytest.mark.parametrize("harm", ["gone", "cut", "empty"])
def test_a_line_without_its_result_does_not_count(runs: Runs, harm: str) -> None:
    """A completed experiment whose file is gone or cut has yet to run, and the journal says lost."""
    record(runs, a_result("a"), a_result("b"))
    path = runs.results(RUN_ID).path_of("a", 1)
    data = path.read_bytes()
    path.unlink() if harm == "gone" else path.write_bytes(data[:-20] if harm == "cut" else b"")
    standing = reopen(runs)
    assert list(standing.having("completed")) == [("hash of b", 1)]
    assert [event["event"] for event in standing.corrections] == ["lost"]
    assert len(standing.damaged) == (harm != "gone")
    again = reopen(runs)
    assert again.corrections == []
    assert status(again, "a").status == "pending"


def test_a_lost_result_is_measured_again(runs: Runs) -> None:
    """The attempt after a lost one gets a number of its own and counts."""
    record(runs, a_result("a"))
    runs.results(RUN_ID).path_of("a", 1).write_bytes(b"{")
    run, _ = runs.open(run_info())
    assert run.begin("a", "hash of a", 1) == 2
    run.record(a_result("a", 2))
    run.close()
    assert status(reopen(runs), "a").attempt == 2


def test_a_result_that_was_only_reformatted_still_counts(runs: Runs) -> None:
    """A file of another size that still holds its attempt is entered anew instead of being thrown away."""
    record(runs, a_result("a"))
    path = runs.results(RUN_ID).path_of("a", 1)
    path.write_text(a_result("a").model_dump_json(), encoding="utf-8")
    standing = reopen(runs)
    assert status(standing, "a").status == "completed"
    assert (status(standing, "a").size, standing.damaged) == (path.stat().st_size, [])
    assert reopen(runs).corrections == []


def test_an_altered_result_of_the_same_size_is_found_when_it_is_read(runs: Runs) -> None:
    """Damage that leaves the size alone makes the experiment pending as soon as its result is loaded."""
    record(runs, a_result("a"), a_result("b"))
    path = runs.results(RUN_ID).path_of("a", 1)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    standing = reopen(runs)
    assert [result.experiment_id for result in standing.load_completed()] == ["b"]
    assert list(standing.having("completed")) == [("hash of b", 1)]
    assert [str(path) in sentence for sentence in standing.damaged] == [True]


def test_after_cache_clear_all_is_rebuilt_from_the_results(runs: Runs) -> None:
    """Without its journals a run stands where it stood, attempts in the order in which they were made."""
    renamed = a_result("a-float16", 3, spec_hash="hash of a")
    record(runs, renamed, a_result("a", failed="oom"), a_result("a", 2), a_result("b", failed="timeout"))
    assert runs.cache_dir
    shutil.rmtree(runs.cache_dir)
    standing = reopen(runs)
    assert status(standing, "a").experiment_id == "a-float16"
    assert (status(standing, "b").status, status(standing, "b").failure_kind) == ("failed", "timeout")
    assert len(standing.corrections) == 4
    assert reopen(runs).statuses == standing.statuses


def test_results_that_were_deleted_make_all_pending(runs: Runs) -> None:
    """A run whose results folder is gone has nothing to continue, whatever its journal says."""
    record(runs, a_result("a"))
    shutil.rmtree(runs.results_dir)
    assert runs.newest() is None
    standing = reopen(runs)
    assert status(standing, "a").status == "pending"


def test_without_a_cache_results_are_still_found(tmp_path: Path) -> None:
    """A session without pytest's cache writes results, no journal, and reads them back."""
    runs = Runs(None, tmp_path / "results", "sizes-0a1b2c")
    record(runs, a_result("a"))
    assert status(reopen(runs), "a").status == "completed"
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_survey_writes_nothing(runs: Runs) -> None:
    """Looking at a run leaves every file as it is, whatever there is to correct, and creates none."""
    assert runs.survey(RUN_ID).statuses == {}
    assert not runs.results_dir.exists()
    record(runs, a_result("a"), a_result("b"))
    store = runs.results(RUN_ID)
    store.write(a_result("c"))
    store.path_of("a", 1).unlink()
    before = tree(runs.results_dir.parent)
    standing = runs.survey(RUN_ID)
    assert set(standing.having("completed")) == {("hash of b", 1), ("hash of c", 1)}
    assert tree(runs.results_dir.parent) == before


def test_a_damaged_line_is_told(runs: Runs) -> None:
    """A journal line that cannot be read is counted in one sentence, and its result is found on disk."""
    record(runs, a_result("a"))
    assert runs.cache_dir
    (journal,) = runs.cache_dir.rglob("*.jsonl")
    journal.write_bytes(journal.read_bytes().replace(b'"completed"', b"completed"))
    standing = reopen(runs)
    assert status(standing, "a").status == "completed"
    assert [sentence.startswith("1 damaged line") for sentence in standing.damaged] == [True]


def test_temporary_files_of_dead_sessions_are_swept(runs: Runs) -> None:
    """Opening a run clears what killed writers left."""
    record(runs, a_result("a"))
    left = runs.results(RUN_ID).path_of("a", 2).with_name(".attempt-2.json.0a1b2c3d.tmp")
    left.write_bytes(b"{")
    reopen(runs)
    assert not left.exists()


def test_run_json_keeps_what_the_run_is(runs: Runs) -> None:
    """The seed and the points of a run are read back by the session that continues it."""
    assert runs.info(RUN_ID) is None
    info = run_info()
    run, _ = runs.open(info)
    run.close()
    assert runs.info(RUN_ID) == info
    later = info.model_copy(update={"session": new_session(), "points": {"hash of b": "b"}})
    run, _ = runs.open(later)
    run.close()
    assert runs.info(RUN_ID) == later != info


def test_a_damaged_run_json_says_what_to_do(runs: Runs) -> None:
    """A run that cannot be understood is refused by name instead of being continued with another seed."""
    record(runs)
    (runs.results(RUN_ID).folder / "run.json").write_bytes(b"{}")
    with pytest.raises(DamagedFileError, match=r"run\.json does not describe a run .* without --lf"):
        runs.info(RUN_ID)


def test_a_run_that_could_not_be_opened_is_not_left_locked(runs: Runs) -> None:
    """A refusal, here of a journal of a newer version, does not keep the run from being opened later."""
    assert runs.cache_dir
    journal = runs.cache_dir / runs.campaign_key / RUN_ID / "gw0.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text(
        '{"at": "2026-11-22T18:45:12+00:00", "event": "opened", "schema_version": 99}\n', "utf-8"
    )
    with pytest.raises(DamagedFileError, match=r"gw0\.jsonl is of a newer version") as refusal:
        runs.open(run_info())
    journal.unlink()
    assert reopen(runs).statuses == {}
    assert refusal.tb is not None  # its frames kept the lock from being collected


def test_an_xdist_worker_writes_a_journal_of_its_own(runs: Runs) -> None:
    """A worker joins the run that its controller holds, and the next session finds what both wrote."""
    controller, _ = runs.open(run_info())
    worker = runs.join(controller.info, "gw0")
    worker.record(a_result("a"))
    controller.record(a_result("b"))
    worker.close()
    controller.close()
    standing = reopen(runs)
    assert set(standing.having("completed")) == {("hash of a", 1), ("hash of b", 1)}
    assert standing.corrections == []


def test_compare_names_what_an_edit_did() -> None:
    """Added, altered and removed configurations are told apart, and a mere renaming is none of them."""
    before = {"1": "same", "2": "altered", "3": "removed", "4": "old name"}
    now = {"1": "same", "5": "altered", "6": "added", "4": "new name"}
    assert compare(before, now) == (("added",), ("altered",), ("removed",))


labels = st.dictionaries(st.text("abcd", min_size=1, max_size=2), st.sampled_from("uvwxyz"))


@given(labels, labels)
def test_compare_is_the_mirror_of_the_way_back(before: dict[str, str], now: dict[str, str]) -> None:
    """What an edit adds, undoing it removes; what it alters, undoing it alters."""
    there, back = compare(before, now), compare(now, before)
    assert (there.new, there.gone) == (back.gone, back.new)
    assert set(there.changed) == set(back.changed)
    assert compare(now, now) == ((), (), ())
