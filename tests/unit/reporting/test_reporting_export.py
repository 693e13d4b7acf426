"""The summary's files and campaign.yaml, and the page that publishes their formats."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from factories import BEGIN, GPU, measurement, result
from pytest_llem.analysis.budgets import Verdict
from pytest_llem.analysis.diagnostics import Diagnostic
from pytest_llem.analysis.estimates import MetricSummary
from pytest_llem.analysis.expenses import Bill, SpendingReport
from pytest_llem.analysis.intervals import Interval
from pytest_llem.analysis.observations import Expected, Observation
from pytest_llem.analysis.summary import RowSummary, Summary, summarise
from pytest_llem.campaign.loader import load
from pytest_llem.campaign.schema import Campaign, Confidence
from pytest_llem.records import (
    METRICS,
    Environment,
    Failure,
    Launch,
    Measurement,
    Quantity,
    Result,
    WarmupReport,
)
from pytest_llem.reporting.export import (
    SummaryFacts,
    experiment_row,
    git_commit,
    summary_row,
    write_campaign,
    write_summary,
)
from pytest_llem.state.health import HealthTally, Unhealthy
from pytest_llem.state.results import ResultStore
from pytest_llem.state.run_info import RunInfo, new_session

LABELS = ("pytorch batch_size=8", "pytorch batch_size=16")
CAMPAIGN = Campaign.model_validate(
    {
        "campaign_name": "sizes",
        "execution": {"cycles": 3},
        "experiments": [
            {"config": "experiment.yaml", "overrides": {"batch_size": 4}},
            {"inline": {"model_name": "models/tiny", "config_name": "twin"}},
        ],
        "services": {"pytorch": {"env": {"HF_TOKEN": "hf_abc", "OMP_NUM_THREADS": "2"}}},
        "notify": {"webhook_url": "https://example.org/hook/abc"},
    }
)
RUN = RunInfo(
    run_id="20261122-184512-x7k2",
    campaign_key="sizes-0a1b2c",
    seed=7,
    created=BEGIN,
    campaign_sha256="f" * 64,
    tool_version="0.1.0",
    cycles=3,
    points={},
    session=new_session(),
)
FACTS = SummaryFacts(CAMPAIGN, RUN, ("0a1b2c3d4e5f",), "c0ffee")


def summary() -> Summary:
    """Return a summary of a configuration with three cycles, and of one that only failed."""
    measured = [
        result(LABELS[0], cycle, measurement=measurement({"energy_per_output_token_j": value}))
        for cycle, value in enumerate((0.40, 0.41, 0.42), 1)
    ]
    expected = [
        Expected(f"hash of {LABELS[0]}", LABELS[0], {"batch_size": 8}, 3),
        Expected(f"hash of {LABELS[1]}", LABELS[1], {"batch_size": 16, "dtype": "float16"}, 3),
    ]
    observations = map(Observation.of, [*measured, result(LABELS[1], failed="oom")])
    return summarise(observations, expected, confidence=Confidence(), group_by=["batch_size"])


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "sizes-0a1b2c" / RUN.run_id)


def written(store: ResultStore) -> dict[str, Any]:
    write_summary(store, summary(), FACTS)
    found: dict[str, Any] = json.loads((store.folder / "summary.json").read_text())
    return found


def test_the_summary_says_where_it_comes_from(store: ResultStore) -> None:
    """summary.json names campaign, run, order, environments, tool and commit, with its schema version."""
    found = written(store)
    expected = {
        "schema_version": 1,
        "campaign": "sizes",
        "campaign_key": "sizes-0a1b2c",
        "run_id": RUN.run_id,
        "seed": 7,
        "structure": "shuffled",
        "campaign_sha256": "f" * 64,
        "environments": ["0a1b2c3d4e5f"],
        "git_commit": "c0ffee",
        "created": "2026-11-22T18:45:12+00:00",
        "confidence": {"level": 0.95, "method": "auto", "resamples": 9999},
    }
    assert {name: found[name] for name in expected} == expected
    assert datetime.fromisoformat(found["updated"]) <= datetime.now(UTC)


def test_the_summary_says_how_its_services_were(store: ResultStore) -> None:
    """summary.json has checks, restarts and what is unhealthy, as counted over the run."""
    tally = HealthTally(checks=3, restarts={"vllm": 2}, unhealthy={"vllm": Unhealthy(2, "it does not run")})
    write_summary(store, summary(), replace(FACTS, health=tally))
    assert json.loads((store.folder / "summary.json").read_text())["health"] == {
        "checks": 3,
        "restarts": {"vllm": 2},
        "unhealthy": {"vllm": {"cycle": 2, "problem": "it does not run"}},
        "memory_not_freed": 0,
        "unavailable_s": 0.0,
        "residents": [],
    }


def test_the_summary_says_what_the_run_has_taken(store: ResultStore) -> None:
    """summary.json has time, energy and costs so far; before anything has run it has null."""
    taken = Bill(seconds=60, energy_kwh=0.5, measured_kwh=0.4, unknown_energy_s=1, cost=0.15, carbon_g=None)
    report = SpendingReport(domains=("gpu",), so_far=taken, in_all=None, stopped_by="execution.budget_kwh")
    write_summary(store, summary(), replace(FACTS, spending=report))
    found = json.loads((store.folder / "summary.json").read_text())["spending"]
    assert found["so_far"]["energy_kwh"] == 0.5
    assert (found["in_all"], found["stopped_by"]) == (None, "execution.budget_kwh")
    assert written(store)["spending"] is None


def test_the_summary_has_both_intervals_of_every_metric(store: ResultStore) -> None:
    """A row carries center, headline and bootstrap interval with their methods; what is unknown is null."""
    row = written(store)["rows"][0]
    energy = row["metrics"]["energy_per_output_token_j"]
    assert set(row["metrics"]) == set(METRICS)
    assert (row["n"], row["of"]) == (3, 3)
    assert energy["interval"]["method"] == "student"
    assert energy["bootstrap"]["method"] == "percentile"
    assert energy["interval"]["low"] < energy["center"] < energy["interval"]["high"]
    assert row["metrics"]["ttft_ms_mean"]["center"] is None


def test_the_summary_keeps_failures_and_groups(store: ResultStore) -> None:
    """Failed experiments are counted by class, and groups stand beside the configurations."""
    found = written(store)
    assert found["rows"][1]["failures"] == {"oom": 1}
    assert [group["label"] for group in found["groups"]] == ["batch_size=8", "batch_size=16"]


def test_summary_csv_has_a_row_a_configuration(store: ResultStore) -> None:
    """Each row has n of N, the interval with method, source and parts, all axes, and where it comes from."""
    written(store)
    with (store.folder / "summary.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["n"], first["of"]) == ("3", "3")
    assert float(first["energy_per_output_token_j"]) == pytest.approx(0.41, abs=1e-3)
    assert float(first["energy_per_output_token_j_low"]) < 0.40
    assert first["energy_per_output_token_j_method"] == "student"
    assert first["energy_per_output_token_j_df"] == "2"
    assert first["energy_per_output_token_j_source"] == "nvml_counter"
    assert (first["energy_per_output_token_j_parts"], second["energy_j_parts"]) == ("gpu", "")
    assert (first["axis:dtype"], second["axis:dtype"]) == ("", "float16")
    assert (second["n"], second["energy_per_output_token_j"], second["failures"]) == ("0", "", "oom=1")
    assert (first["seed"], first["git_commit"]) == ("7", "c0ffee")


def test_campaign_yaml_is_the_resolved_campaign(store: ResultStore) -> None:
    """campaign.yaml has every default, and experiments as a campaign file writes them."""
    write_campaign(store, CAMPAIGN)
    found = yaml.safe_load((store.folder / "campaign.yaml").read_text())
    assert found["execution"]["recycle_cycles"] == 1
    assert found["experiments"] == [
        {"config": "experiment.yaml", "overrides": {"batch_size": 4}},
        {"model_name": "models/tiny", "config_name": "twin"},
    ]


def test_campaign_yaml_is_read_back_as_the_same_campaign(store: ResultStore, tmp_path: Path) -> None:
    """Whatever its text looks like, the file that is written loads as the campaign that was run."""
    (tmp_path / "grid.yaml").write_text(
        """
        campaign_name: "$${USER} has 100 %"
        defaults: {model_name: models/tiny}
        grid:
          backends: [pytorch]
          shared: {batch_size: [1, 8], decoder.temperature: [1e-3, null]}
          exclude: [{batch_size: 8}]
        experiments:
          - {backend: pytorch, config_name: "1e-3"}
          - {backend: pytorch, config_name: "12:30"}
        services: {pytorch: {env: {A: "on", B: "010"}}}
        """
    )
    campaign = load(tmp_path / "grid.yaml", tmp_path, ()).campaign
    write_campaign(store, campaign)
    assert load(store.folder / "campaign.yaml", tmp_path, ()).campaign == campaign


def test_campaign_yaml_keeps_secrets_to_itself(store: ResultStore) -> None:
    """Tokens and webhooks stay out of a file that people publish; other variables are kept."""
    write_campaign(store, CAMPAIGN)
    text = (store.folder / "campaign.yaml").read_text()
    assert "hf_abc" not in text
    assert "example.org" not in text
    assert "HF_TOKEN: <not written>" in text
    assert "OMP_NUM_THREADS: '2'" in text


def test_the_commit_is_that_of_the_campaigns_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is null outside git, the full hash in a checkout, and marked when tracked files differ."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    assert git_commit(tmp_path) is None

    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org", *words]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init")
    assert git_commit(tmp_path) is None
    (tmp_path / "grid.yaml").write_text("campaign_name: sizes\n")
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    (tmp_path / "grid.yaml").write_text("campaign_name: other\n")
    assert git_commit(tmp_path) == f"{commit}-dirty"
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) is None


# --- docs/formats.md ---

PUBLISHED = (
    Result,
    Measurement,
    Launch,
    WarmupReport,
    Quantity,
    Failure,
    Environment,
    RunInfo,
    RowSummary,
    MetricSummary,
    Interval,
    Verdict,
    Diagnostic,
    HealthTally,
    Unhealthy,
    SpendingReport,
    Bill,
)
FORMATS = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()


def is_published(name: str) -> bool:
    """Tell whether docs/formats.md has `name`, or the pattern that it follows."""
    name = re.sub("^axis:.*", "axis:<name>", name)
    name = re.sub(
        f"^energy_(total|gpu|cpu|dram|gpu:{GPU})_(j|resolution_j|source)$", r"energy_<domain>_\2", name
    )
    for metric in METRICS:
        if name == metric or name.startswith(f"{metric}_"):
            name = name.replace(metric, "<metric>", 1)
            break
    return f"`{name}`" in FORMATS


def test_every_column_of_results_csv_is_published() -> None:
    """docs/formats.md names each column of results.csv."""
    assert [name for name in experiment_row(result()) if not is_published(name)] == []


def test_every_column_of_summary_csv_is_published() -> None:
    """docs/formats.md names each column of summary.csv."""
    assert [name for name in summary_row(summary().rows[0], FACTS) if not is_published(name)] == []


def test_every_field_of_the_json_files_is_published(store: ResultStore) -> None:
    """docs/formats.md names each field of summary.json, results, run.json and environment.json."""
    schemas = [TypeAdapter[Any](record).json_schema() for record in PUBLISHED]
    fields = [*written(store), *(name for schema in schemas for name in schema["properties"])]
    assert [name for name in dict.fromkeys(fields) if not is_published(name)] == []
