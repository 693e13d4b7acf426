"""Forked where a trial shows that it is safe, spawned where it is not; the result says which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llem.worker import forking
from runs import results_of
from standin.build import build_cuda

Campaign = Callable[..., Path]


def test_engines_are_forked_where_the_parent_is_quiet(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A preloaded parent with one thread and no CUDA context is forked."""
    campaign()
    pytester.runpytest_subprocess("--campaign=grid.yaml", "-k", "c1").assert_outcomes(passed=2)
    assert {r["measurement"]["launch"]["start_method"] for r in results_of(pytester.path)} == {"forkserver"}


def test_engines_are_spawned_where_an_import_starts_a_thread(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """An engine library that starts a thread on import makes forking unsafe, and engines are spawned."""
    campaign("services: {abacus: {env: {ABACUS_THREAD: '1'}}}\n")
    pytester.runpytest_subprocess("--campaign=grid.yaml", "-k", "c1").assert_outcomes(passed=2)
    assert {r["measurement"]["launch"]["start_method"] for r in results_of(pytester.path)} == {"spawn"}
    (environment,) = pytester.path.rglob("environment.json")
    assert "the preloaded parent has 2 threads" in environment.read_text()


def test_engines_are_spawned_where_an_import_initialises_cuda(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """An engine library that initialises the CUDA driver on import makes forking unsafe, and engines are spawned."""
    library = build_cuda(pytester.path)
    campaign(f"services: {{abacus: {{env: {{ABACUS_CUDA: '1', LD_LIBRARY_PATH: '{library}'}}}}}}\n")
    pytester.runpytest_subprocess("--campaign=grid.yaml", "-k", "c1").assert_outcomes(passed=2)
    assert {r["measurement"]["launch"]["start_method"] for r in results_of(pytester.path)} == {"spawn"}
    (environment,) = pytester.path.rglob("environment.json")
    assert "an import initialised the CUDA driver in the parent" in environment.read_text()


def test_a_driver_that_sleeps_does_not_keep_engines_from_being_forked(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """A CUDA driver that is installed, and that no import has initialised, is no reason to spawn."""
    campaign(f"services: {{abacus: {{env: {{LD_LIBRARY_PATH: '{build_cuda(pytester.path)}'}}}}}}\n")
    pytester.runpytest_subprocess("--campaign=grid.yaml", "-k", "c1").assert_outcomes(passed=2)
    assert {r["measurement"]["launch"]["start_method"] for r in results_of(pytester.path)} == {"forkserver"}


def test_a_backend_may_ask_for_spawning() -> None:
    """Without modules to preload there is nothing to fork."""
    assert forking.choose((), timeout_s=1).method == "spawn"
