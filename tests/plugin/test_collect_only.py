"""`--collect-only`: validate a grid; nothing runs, nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import run_folders

Campaign = Callable[..., Path]

MIXED = """
    backends: [abacus, tensorrt]
    shared:
      fp_precision: [float32]
      batch_size: [1, 2]
      max_output_tokens: [4, 4]
"""


def files_below(path: Path) -> set[Path]:
    """Return what is there, less what the harness itself writes."""
    own = {"stdout", "stderr", "runpytest-0", "runpytest-1", "runpytest-current"}
    return {file for file in path.rglob("*") if not own & set(file.parts)}


def test_it_lists_the_items_and_groups_the_reasons(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The summary counts valid and filtered points, merged ones too, and names each reason once."""
    campaign(grid=MIXED)
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--collect-only")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*: 2 valid, * filtered, * warned; 2 cycles = 4 experiments; at least 0 s*"])
    assert done.stdout.str().count("TensorRT-LLM serves no float32") == 1
    assert done.stdout.str().count("<ExperimentItem ") == 4


def test_it_writes_nothing(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Neither results nor a run's journal appear, and no process is started."""
    campaign()
    before = files_below(pytester.path)
    pytester.runpytest_subprocess("--campaign=grid.yaml", "--collect-only")
    assert not (pytester.path / ".pytest_cache/d").exists()
    shutil.rmtree(pytester.path / ".pytest_cache")  # of pytest itself
    assert files_below(pytester.path) == before


def test_it_leaves_an_older_run_as_it_is(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """With `--lf` it says what a resume would do, and does not touch the run."""
    campaign()
    pytester.runpytest_subprocess("--campaign=grid.yaml", "--deselect", "grid.yaml::abacus-batch_size-2-c2")
    before = {
        path: path.read_bytes() for path in files_below(run_folders(pytester.path)[0]) if path.is_file()
    }
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--collect-only", "--lf")
    done.stdout.fnmatch_lines(["*Resuming: 1 remaining (3 completed, 0 failed)*"])
    assert done.stdout.str().count("<ExperimentItem ") == 1
    assert {
        path: path.read_bytes() for path in files_below(run_folders(pytester.path)[0]) if path.is_file()
    } == before


def test_ids_are_plain(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """An id names the backend, each axis that varies and the cycle, and needs no quoting."""
    campaign()
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--collect-only", "-q")
    done.stdout.fnmatch_lines(["grid.yaml::abacus-batch_size-1-c1"])


def test_the_least_duration_counts_windows_and_gaps(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """At least, the header says: windows plus gaps; windows plus gaps: 4 windows of 1 h and 3 gaps of 1 h are 7 h."""
    path = campaign(execution="seed: 1")
    text = path.read_text().replace("seconds: 0, passes", "seconds: 3600, passes")
    path.write_text(text.replace("gap_seconds: 0", "gap_seconds: 3600"))
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--collect-only")
    done.stdout.fnmatch_lines(["*at least 7:00*"])
