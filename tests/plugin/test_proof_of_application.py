"""What was asked and not applied fails, for a backend in a package of its own as for those of this one."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distributions import distribute
from runs import results_of

Campaign = Callable[..., Path]

DEAF_SPEC = """
    from dataclasses import replace
    from abacus.spec import SPEC as ABACUS

    SPEC = replace(ABACUS, name="deaf", engine="deaf.engine", preload=("deaf.engine",), packages=())
"""
DEAF_ENGINE = """
    import abacus.engine

    def load(configuration, model):
        return Deaf(configuration)

    class Deaf(abacus.engine.Abacus):
        \"\"\"An abacus that cannot have 15 rods, keeps its first batch size, and then says so.\"\"\"

        def __init__(self, configuration):
            super().__init__(configuration.fp_precision, "")
            asked = configuration.parameters
            self._made_of = {"rods": min(asked["rods"], 14), "fp_precision": configuration.fp_precision}
            self._batch_size = asked["batch_size"]

        def effective(self):
            return self._made_of

        def run_pass(self, prompts, configuration, beat):
            self._made_of = self._made_of | {"batch_size": self._batch_size}
            return super().run_pass(prompts, configuration, beat)
"""


@pytest.fixture
def deaf(pytester: pytest.Pytester, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """Return a function that writes a campaign for a backend that does not do all that it is asked for."""
    modules = {
        "deaf/spec.py": textwrap.dedent(DEAF_SPEC),
        "deaf/engine.py": textwrap.dedent(DEAF_ENGINE),
    }
    distribute(pytester.path / "lib", "deaf", modules, "deaf = deaf.spec:SPEC")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path / "lib"), os.environ["PYTHONPATH"]]))
    return campaign


def outcomes(root: Path, axis: str) -> dict[Any, tuple[str, str] | None]:
    """Return by the value of an axis the class and sentence of the failure, None for what was completed."""
    return {
        result["axes"][axis]: (failure["kind"], failure["message"])
        if (failure := result["failure"])
        else None
        for result in results_of(root)
    }


def test_what_shows_in_the_load(pytester: pytest.Pytester, deaf: Campaign) -> None:
    """A parameter that the load did not apply fails with both values before anything is served; others go on."""
    deaf(grid="backends: [deaf]\nshared:\n  rods: [13, 15]")
    done = pytester.runpytest_subprocess("--campaign=grid.yaml")
    done.assert_outcomes(passed=2, failed=2)
    done.stdout.fnmatch_lines(["*the engine did not apply rods (asked 15, applied 14)*"])
    assert outcomes(pytester.path, "rods") == {
        13: None,
        15: ("invalid_config", "the engine did not apply rods (asked 15, applied 14)"),
    }


@pytest.mark.parametrize(
    "served",
    [
        "warmup.enabled: [false]",
        "warmup.enabled: [true]\n  warmup.convergence_detection: [false]",
        "load.mode: [closed]\n  load.concurrency: [2]",
    ],
    ids=["window", "warm-up", "load"],
)
def test_what_shows_in_a_pass(pytester: pytest.Pytester, deaf: Campaign, served: str) -> None:
    """A parameter that only a pass shows is compared for each configuration of a launch, however it is served."""
    deaf(
        grid=f"backends: [deaf]\nshared:\n  batch_size: [1, 2]\n  {served}",
        execution="structure: interleaved",
    )
    pytester.runpytest_subprocess("--campaign=grid.yaml").assert_outcomes(passed=2, failed=2)
    assert outcomes(pytester.path, "batch_size") == {
        1: None,
        2: ("invalid_config", "the engine did not apply batch_size (asked 2, applied 1)"),
    }


def test_a_result_shows_what_was_asked(pytester: pytest.Pytester, deaf: Campaign) -> None:
    """What was asked stands beside what was applied, and what the engine says nothing of is listed."""
    deaf(grid="backends: [deaf]")
    pytester.runpytest_subprocess("--campaign=grid.yaml").assert_outcomes(passed=2)
    result, _ = results_of(pytester.path)
    measurement = result["measurement"]
    asked, effective = measurement["asked"], measurement["effective"]
    assert {name: asked[name] for name in ("rods", "batch_size", "max_output_tokens", "do_sample")} == {
        "rods": 13,
        "batch_size": 1,
        "max_output_tokens": 4,
        "do_sample": False,
    }
    assert effective["rods"] == asked["rods"]
    assert set(measurement["unconfirmed"]) == asked.keys() - effective.keys()
    assert "max_output_tokens" in measurement["unconfirmed"]
