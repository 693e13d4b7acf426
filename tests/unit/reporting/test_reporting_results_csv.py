"""results.csv: one row an attempt, at any moment."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import GPU, measurement, result
from pytest_llem.records import METRICS
from pytest_llem.reporting.cells import as_page, cells
from pytest_llem.reporting.results_csv import ResultsCsv, experiment_row
from pytest_llem.state.results import StorageError


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def header_of(path: Path) -> str:
    return path.read_text().partition("\n")[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def test_a_row_has_every_metric_and_the_sources_of_energy() -> None:
    """Every metric is a column, energies with their source and their parts; what is not known is None."""
    row = experiment_row(result())
    assert set(METRICS) <= set(row)
    assert row["energy_per_output_token_j"] == 0.412
    assert row["energy_per_output_token_j_source"] == "nvml_counter"
    assert row["energy_per_output_token_j_parts"] == "gpu"
    assert row["ttft_ms_mean"] is None
    assert row["energy_total_j"] == 5270.0
    assert row["energy_total_resolution_j"] == 17.6
    assert row["energy_cpu_j"] is None
    assert row["energy_cpu_source"] == "unavailable"
    assert row[f"energy_gpu:{GPU}_source"] == "nvml_counter"


def test_a_row_places_the_experiment() -> None:
    """Block, launch, axes, times and gap are there, under the names of the published format."""
    row = experiment_row(result(cycle=2), axes=["dtype"])
    assert row["block"] == "2:5e55101a"
    assert row["launch_id"] == "launch-1"
    assert row["warm"] is False
    assert row["axis:batch_size"] == 8
    assert row["axis:dtype"] is None
    assert row["gap_s"] == 10.0
    assert row["started_at"] == "2026-11-22T19:05:12+00:00"


def test_a_failed_attempt_is_a_row_without_numbers() -> None:
    """A failure has class and message, and the same columns, all numbers of the measurement empty."""
    row = experiment_row(result(failed="oom"))
    assert row["failure_class"] == "oom"
    assert row["window_s"] is None
    columns = experiment_row(
        result(measurement=measurement(energy_j={"total": measurement().energy_j["total"]}))
    )
    assert list(row) == list(columns)


def test_rows_are_read_back_by_the_csv_module(path: Path) -> None:
    """Numbers keep every digit, absent ones are empty, truth values are lower case, flags are joined."""
    exact = 0.1 + 0.2
    measured = measurement({"energy_per_output_token_j": exact}, flags=("a", "b"))
    ResultsCsv(path).append(result(measurement=measured))
    [row] = rows_of(path)
    assert float(row["energy_per_output_token_j"]) == exact
    assert row["ttft_ms_mean"] == ""
    assert row["warm"] == "false"
    assert row["flags"] == "a; b"


def test_a_row_is_appended_to_the_same_file(path: Path) -> None:
    """A second row adds a line and leaves the bytes before it alone."""
    file = ResultsCsv(path)
    file.append(result(cycle=1))
    before, inode = path.read_bytes(), path.stat().st_ino
    file.append(result(cycle=2, failed="timeout"))
    assert path.read_bytes().startswith(before)
    assert path.stat().st_ino == inode
    assert [row["cycle"] for row in rows_of(path)] == ["1", "2"]


def test_the_header_has_the_axes_of_the_campaign(path: Path) -> None:
    """Axes on which the first experiment does not lie have their column from the start."""
    ResultsCsv(path, ["batch_size", "max_num_seqs"]).append(result())
    header = header_of(path)
    ResultsCsv(path).append(result(cycle=2, axes={"backend": "vllm", "max_num_seqs": 64}))
    assert header == header_of(path)
    assert [row["axis:max_num_seqs"] for row in rows_of(path)] == ["", "64"]


def test_an_edited_campaign_has_the_columns_of_both(path: Path) -> None:
    """A new axis rewrites the file; rows and columns of the earlier session are kept as they were."""
    ResultsCsv(path).append(result(cycle=1, position=-1))
    file = ResultsCsv(path, ["dtype"])
    file.append(result(cycle=2, axes={"backend": "pytorch", "dtype": "float16"}))
    file.append(result(cycle=3, axes={"backend": "pytorch", "dtype": "-8"}))
    assert [(row["axis:batch_size"], row["axis:dtype"]) for row in rows_of(path)] == [
        ("8", ""),
        ("", "float16"),
        ("", "'-8"),
    ]
    assert rows_of(path)[0]["position"] == "-1"


def test_a_torn_row_is_dropped_by_the_next_session(path: Path) -> None:
    """A row that a power failure cut in two never becomes part of another row."""
    ResultsCsv(path).append(result(cycle=1))
    whole = path.read_bytes()
    path.write_bytes(whole + whole.partition(b"\n")[2][:40])
    ResultsCsv(path).append(result(cycle=2))
    assert [row["cycle"] for row in rows_of(path)] == ["1", "2"]


def test_the_file_is_made_again_from_the_results(path: Path) -> None:
    """Rebuilding replaces what is there by one row a result, whatever GPUs and axes they have."""
    path.write_text("nonsense")
    file = ResultsCsv(path, ["batch_size"])
    file.rebuild([result(cycle=1, failed="lost"), result(cycle=2)])
    file.append(result(cycle=3))
    assert [row["cycle"] for row in rows_of(path)] == ["1", "2", "3"]
    assert [row[f"energy_gpu:{GPU}_j"] for row in rows_of(path)] == ["", "5270.0", "5270.0"]


def test_without_results_there_is_no_file(path: Path) -> None:
    """Rebuilding from nothing leaves no rows of results that are gone."""
    file = ResultsCsv(path)
    file.append(result())
    file.rebuild([])
    assert not path.exists()


def test_a_file_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    """A refusal of the file system is a StorageError that names the file."""
    path = tmp_path / "results.csv"
    path.mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*results\.csv"):
        ResultsCsv(path).append(result())


@pytest.mark.parametrize("label", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_text_does_not_become_a_formula(path: Path, label: str) -> None:
    """Text that a spreadsheet would compute is kept as text by an apostrophe; numbers are left alone."""
    ResultsCsv(path).append(result(label=label, gap_s=-0.5))
    [row] = rows_of(path)
    assert row["label"] == f"'{label}"
    assert row["gap_s"] == "-0.5"


def test_a_message_of_many_lines_is_one_line(path: Path) -> None:
    """Each row is one line of the file, whatever a failure had to say."""
    ResultsCsv(path).append(result(failed="crashed", message='first\n  "second", third\r\nlast'))
    assert len(path.read_text().splitlines()) == 2
    assert rows_of(path)[0]["failure_message"] == 'first "second", third last'


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_any_text_stays_in_its_cell(texts: list[str]) -> None:
    """No text breaks the row it is in, begins a formula, or moves to another column."""
    row = {f"column {place}": text for place, text in enumerate(texts)}
    page = as_page([cells(row)], row)
    [found] = csv.DictReader(page.splitlines())
    assert list(found) == list(row)
    assert not any(value.startswith(("=", "+", "-", "@", "\t")) for value in found.values())
