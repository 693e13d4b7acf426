"""What an experiment's keys do, from the campaign file to the result on disk.

One session measures `plain` and beside it, for each key, a configuration that differs from it in that key.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from runs import results_of

TOY = Path(__file__).parents[1] / "toy"

PASS = 20
"""Prompts in a pass of every configuration but one."""

CAMPAIGN = """
campaign_name: keys
model: beads
defaults:
  backend: abacus
  max_input_tokens: 4
  max_output_tokens: 4
  num_input_prompts: 20
  warmup: {enabled: false, window_size: 1}
  abacus: {batch_size: 20}
window: {seconds: 0, passes: 1}
execution: {cycles: 1, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}
services:
  abacus: {env: {ABACUS_WOOD: oak}}
experiments:
  - {config_name: plain}
  - {config_name: other model, model_name: pearls}
  - {config_name: longer prompts, max_input_tokens: 6}
  - {config_name: longer answers, max_output_tokens: 7}
  - {config_name: more prompts, num_input_prompts: 30}
  - {config_name: other seed, random_seed: 7}
  - {config_name: own prompts, prompts_file: prompts.txt}
  - {config_name: other precision, fp_precision: bfloat16}
  - {config_name: floor of campaign, warmup: {enabled: true, convergence_detection: false}}
  - {config_name: own floor, warmup: {enabled: true, convergence_detection: false, min_prompts: 50}}
  - {config_name: loose, warmup: {enabled: true, cv_threshold: 1, max_prompts: 200}}
  - {config_name: strict, warmup: {enabled: true, cv_threshold: 1.0e-15, max_prompts: 200}}
  - {config_name: low cap, warmup: {enabled: true, cv_threshold: 1.0e-15, max_prompts: 40}}
  - {config_name: long slices, warmup: {enabled: true, cv_threshold: 1, max_prompts: 200, window_size: 5}}
"""

Found = dict[str, dict[str, Any]]
"""The measurement of each experiment by its name."""

Measure = Callable[..., Found]


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """Return a function that runs the campaign with `--campaign-set` settings, once for equal ones."""

    @cache
    def run(*settings: str) -> Found:
        folder = tmp_path_factory.mktemp("keys")
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "grid.yaml").write_text(CAMPAIGN)
        (folder / "prompts.txt").write_text("".join(f"prompt number {n}\n" for n in range(PASS)))
        options = [word for setting in settings for word in ("--campaign-set", setting)]
        command = [sys.executable, "-m", "pytest", "--campaign=grid.yaml", "-q", *options]
        environment = os.environ | {"PYTHONPATH": str(TOY)}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return {r["configuration"]["config_name"]: r["measurement"] for r in results_of(folder)}

    return run


@pytest.fixture
def found(measure: Measure) -> Found:
    return measure()


# --- What is served ---


@pytest.mark.key("defaults.model_name")
def test_the_model_is_loaded_by_its_name(found: Found) -> None:
    """Each experiment loads the model that it names."""
    loaded = [found[name]["effective"]["model"] for name in ("plain", "other model")]
    assert loaded == ["beads", "pearls"]


@pytest.mark.key("defaults.num_input_prompts")
def test_a_pass_is_all_prompts_once(found: Found) -> None:
    """num_input_prompts is the number of requests of a pass."""
    assert [found[name]["requests"] for name in ("plain", "more prompts")] == [20, 30]


@pytest.mark.key("defaults.max_input_tokens")
def test_synthetic_prompts_have_the_length_that_was_asked(found: Found) -> None:
    """max_input_tokens is the length of a synthetic prompt."""
    assert [found[name]["prompt_tokens"] for name in ("plain", "longer prompts")] == [4 * PASS, 6 * PASS]


@pytest.mark.key("defaults.max_output_tokens")
def test_answers_have_the_length_that_was_asked(found: Found) -> None:
    """max_output_tokens is the length of an answer where the length is exact."""
    assert [found[name]["output_tokens"] for name in ("plain", "longer answers")] == [4 * PASS, 7 * PASS]


@pytest.mark.key("defaults.random_seed", "defaults.prompts_file")
def test_prompts_come_from_the_seed_or_from_a_file(found: Found) -> None:
    """Another seed gives other prompts, a prompts file gives its own, and nothing else changes them."""
    names = ("plain", "other seed", "own prompts")
    assert len({found[name]["prompt_sha256"] for name in names}) == len(names)
    assert found["other precision"]["prompt_sha256"] == found["plain"]["prompt_sha256"]
    assert found["own prompts"]["prompt_tokens"] == 3 * PASS


@pytest.mark.key("defaults.fp_precision")
def test_the_engine_hears_the_precision(found: Found) -> None:
    """The engine computes in the precision of its experiment."""
    applied = [found[name]["effective"]["fp_precision"] for name in ("plain", "other precision")]
    assert applied == ["float16", "bfloat16"]


# --- Warm-up ---


def passes(found: Found, name: str) -> int:
    count: int = found[name]["warmup"]["passes"]
    return count


@pytest.mark.key("defaults.warmup.enabled")
def test_a_warmup_can_be_left_out(found: Found) -> None:
    """Without a warm-up the result has none."""
    assert found["plain"]["warmup"] is None
    assert passes(found, "floor of campaign") == 1


@pytest.mark.key("defaults.warmup.min_prompts", "execution.warmup_prompts")
def test_the_floor_is_reached_in_whole_passes(found: Found, measure: Measure) -> None:
    """The campaign's floor holds for experiments without one of their own."""
    raised = measure("execution.warmup_prompts=70")
    names = ("floor of campaign", "own floor")
    assert [passes(found, name) for name in names] == [1, 3]
    assert [passes(raised, name) for name in names] == [4, 3]


@pytest.mark.key("defaults.warmup.convergence_detection", "defaults.warmup.cv_threshold")
def test_a_warmup_ends_when_slices_agree(found: Found) -> None:
    """Detection ends at agreement within the threshold or says that there was none; without, nothing is said."""
    names = ("floor of campaign", "loose", "strict")
    assert [found[name]["warmup"]["converged"] for name in names] == [None, True, False]
    assert passes(found, "loose") < passes(found, "strict") == 10
    assert found["strict"]["flags"] == ["warmup_not_converged"]


@pytest.mark.key("defaults.warmup.max_prompts")
def test_the_cap_ends_a_warmup(found: Found) -> None:
    """A warm-up that does not converge ends at max_prompts."""
    assert [passes(found, name) for name in ("low cap", "strict")] == [2, 10]


@pytest.mark.key("defaults.warmup.window_size")
def test_a_slice_is_so_many_passes(found: Found) -> None:
    """After the first pass two slices are compared: of 1 pass they fit below the cap, of 5 they do not."""
    assert found["loose"]["warmup"]["converged"] is True
    assert found["long slices"]["warmup"]["converged"] is False


@pytest.mark.key("execution.warmup_timeout_seconds")
def test_the_timeout_ends_a_warmup(found: Found, measure: Measure) -> None:
    """The time counts from the end of the first pass, which is always whole."""
    hurried = measure("execution.warmup_timeout_seconds=0")
    assert [passes(every, "own floor") for every in (found, hurried)] == [3, 1]


# --- Where it runs ---


@pytest.mark.key("services.*.env")
def test_the_service_has_its_own_environment(found: Found, measure: Measure) -> None:
    """A variable of services.<backend>.env reaches the engine."""
    changed = measure("services.abacus.env={ABACUS_WOOD: ash}")
    assert [every["plain"]["effective"]["wood"] for every in (found, changed)] == ["oak", "ash"]


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """Return the interpreter of an environment that has what a worker needs, the abacus, and nothing else."""
    venv.create(tmp_path, symlinks=True, with_pip=False)
    (library,) = tmp_path.glob("lib/python*/site-packages")
    (library / "abacus").symlink_to(TOY / "abacus")
    for name in WORKER_NEEDS:
        there = distribution(name)
        for entry in {file.parts[0] for file in there.files or ()} - {"..", "__pycache__"}:
            (library / entry).symlink_to(Path(str(there.locate_file(entry))))
    return tmp_path / "bin" / "python"


WORKER_NEEDS = (
    *("pydantic", "pydantic-core", "annotated-types", "typing-extensions", "typing-inspection"),
    *("psutil", "nvidia-ml-py", "numpy"),
)


@pytest.mark.key("services.*.python")
def test_a_backend_may_have_its_own_interpreter(found: Found, measure: Measure, other_python: Path) -> None:
    """The engine runs in the environment of services.<backend>.python, which needs no pytest and no install."""
    elsewhere = measure(f"services.abacus.python={other_python}")
    assert found["plain"]["effective"]["interpreter"] == sys.executable
    assert elsewhere["plain"]["effective"]["interpreter"] == str(other_python)
    lacking = subprocess.run([other_python, "-c", "import pytest"], capture_output=True, check=False)
    assert b"ModuleNotFoundError" in lacking.stderr
