"""How requests arrive, and what is known of them, from the campaign file to the result on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runs import results_of, rows

TOY = Path(__file__).parents[1] / "toy"

TOKENS = 11

CAMPAIGN = """
campaign_name: loads
model: beads
defaults:
  backend: abacus
  max_input_tokens: 4
  max_output_tokens: 11
  num_input_prompts: 20
  warmup: {enabled: false}
  abacus: {batch_size: 4, token_ms: 1}
window: {seconds: 0.4, passes: 1}
execution: {cycles: 1, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}
experiments:
  - {config_name: offline}
  - {config_name: streamed, streaming: true}
  - {config_name: two clients, load: {mode: closed, concurrency: 2}}
  - {config_name: eight clients, load: {mode: closed, concurrency: 8}}
  - {config_name: few requests, load: {mode: closed, concurrency: 4, requests: 8}}
  - {config_name: many requests, load: {mode: closed, concurrency: 4, requests: 200}}
  - {config_name: steady, load: {mode: constant, rate: 20}}
  - {config_name: random, load: {mode: poisson, rate: 40}}
  - {config_name: flood, load: {mode: constant, rate: 3000}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the campaign was run."""
    folder = tmp_path_factory.mktemp("loads")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "grid.yaml").write_text(CAMPAIGN)
    command = [sys.executable, "-m", "pytest", "--campaign=grid.yaml", "-q"]
    environment = os.environ | {"PYTHONPATH": str(TOY)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "saturated: abacus flood" in done.stdout
    return folder


@pytest.fixture(scope="module")
def found(run: Path) -> dict[str, dict[str, Any]]:
    """Return the measurement of each experiment by its name."""
    return {r["configuration"]["config_name"]: r["measurement"] for r in results_of(run)}


def value(measurement: dict[str, Any], metric: str) -> float | None:
    number: float | None = measurement["metrics"][metric]["value"]
    return number


@pytest.mark.key("defaults.streaming")
def test_streaming_gives_the_time_of_every_token(found: dict[str, dict[str, Any]]) -> None:
    """Gaps between tokens are known with streaming, and are n/a with the reason without."""
    assert value(found["offline"], "itl_ms_mean") is None
    assert "streaming: true" in found["offline"]["metrics"]["itl_ms_mean"]["note"]
    itl, tpot = (value(found["streamed"], name) for name in ("itl_ms_mean", "tpot_ms_mean"))
    assert itl == pytest.approx(tpot)


@pytest.mark.key("defaults.load.mode")
def test_the_mode_decides_how_requests_come(found: dict[str, dict[str, Any]]) -> None:
    """An offline batch has no load; a closed one no rate of its own; an open one offers a rate."""
    assert found["offline"]["load"] is None
    assert found["offline"]["passes"] >= 1
    assert found["two clients"]["load"]["offered_rate"] is None
    assert found["two clients"]["passes"] == 0
    for name in ("steady", "random"):
        load = found[name]["load"]
        assert load["offered_rate"] > 0
        assert load["achieved_rate"] * found[name]["window_s"] == pytest.approx(found[name]["requests"])


@pytest.mark.key("defaults.load.concurrency")
def test_the_concurrency_fills_the_batch_or_does_not(found: dict[str, dict[str, Any]]) -> None:
    """Two clients never fill a batch of four; eight keep it full, and four of them waiting."""
    two, eight = found["two clients"], found["eight clients"]
    assert two["mean_running_batch"] <= 2
    assert two["full_batch_share"] == 0
    assert two["load"]["queue_begin"] == two["load"]["queue_end"] == 0
    assert eight["mean_running_batch"] > 2
    assert eight["full_batch_share"] > 0.5
    assert 4 <= eight["load"]["queue_end"] <= 8


@pytest.mark.key("defaults.load.rate")
def test_a_rate_beyond_the_engine_is_flagged(found: dict[str, dict[str, Any]]) -> None:
    """The engine keeps up with 20 requests/s and not with 3000, whose queue grows."""
    assert found["steady"]["flags"] == []
    flood = found["flood"]
    assert flood["flags"] == ["saturated"]
    assert flood["load"]["achieved_rate"] < flood["load"]["offered_rate"]
    assert flood["load"]["queue_end"] > flood["load"]["queue_begin"]


@pytest.mark.key("defaults.load.requests")
def test_the_load_can_be_a_number_of_requests(found: dict[str, dict[str, Any]]) -> None:
    """The window closes when so many are complete, not after window.seconds."""
    assert 8 <= found["few requests"]["requests"] < 100
    assert found["many requests"]["requests"] >= 200


def test_energy_tokens_and_time_are_of_one_window(found: dict[str, dict[str, Any]]) -> None:
    """Under load the window is the time between the meters' readings, and a request's energy is that of its tokens."""
    loaded = [measurement for measurement in found.values() if measurement["load"]]
    assert len(loaded) == 7
    for measurement in loaded:
        assert measurement["window_s"] == pytest.approx(measurement["energy_window_s"])
        per_token = value(measurement, "energy_per_output_token_j")
        if per_token is not None:
            assert value(measurement, "energy_per_request_j") == pytest.approx(per_token * TOKENS)


def test_the_load_is_in_the_table_of_results(run: Path) -> None:
    """results.csv has rates, queues and the share of time at full batch; an offline batch has the last alone."""
    by_label = {row["label"]: row for row in rows(run)}
    offline, flood = by_label["abacus offline"], by_label["abacus flood"]
    assert float(offline["full_batch_share"]) > 0
    names = ("offered_rate", "achieved_rate", "queue_begin", "queue_end")
    assert {offline[name] for name in names} == {""}
    assert all(float(flood[name]) > 0 for name in names)


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        ("{mode: closed}", "load.mode: closed needs load.concurrency"),
        ("{mode: poisson}", "need load.rate"),
    ],
)
def test_a_load_that_lacks_something_is_refused(
    pytester: pytest.Pytester, campaign: Callable[..., Path], load: str, reason: str
) -> None:
    """What a mode lacks is said before anything runs."""
    campaign()
    result = pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-set", f"defaults.load={load}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert reason in " ".join(" ".join(result.errlines).split())
