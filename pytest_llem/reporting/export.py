"""The files beside the results of a run: results.csv, summary.csv, summary.json and campaign.yaml.

Their columns and fields are published (docs/formats.md). A number that is not known is an empty cell or null.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pytest_llem.analysis.expenses import SpendingReport
from pytest_llem.campaign.scalars import resolve
from pytest_llem.campaign.schema import Campaign
from pytest_llem.records import METRICS
from pytest_llem.reporting.cells import Row, as_page, cells, columns_of, listed
from pytest_llem.reporting.results_csv import RESULTS_CSV, ResultsCsv, experiment_row
from pytest_llem.state.health import HealthTally
from pytest_llem.state.results import ResultStore
from pytest_llem.state.run_info import RunInfo

if TYPE_CHECKING:
    from pytest_llem.analysis.estimates import MetricSummary
    from pytest_llem.analysis.summary import RowSummary, Summary

__all__ = [
    "CAMPAIGN_YAML",
    "RESULTS_CSV",
    "SUMMARY_CSV",
    "SUMMARY_JSON",
    "ResultsCsv",
    "SummaryFacts",
    "experiment_row",
    "git_commit",
    "numbers_row",
    "read_campaign",
    "summary_json",
    "summary_row",
    "write_campaign",
    "write_summary",
]

SUMMARY_SCHEMA_VERSION = 1
"""Raised when a field of summary.json or a column of summary.csv changes its meaning or goes."""

SUMMARY_JSON = "summary.json"
SUMMARY_CSV = "summary.csv"
CAMPAIGN_YAML = "campaign.yaml"

NOT_WRITTEN = "<not written>"
"""Stands in campaign.yaml for what may be a secret."""

_SECRET = re.compile("token|key|secret|passw|credential", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SummaryFacts:
    """Where a summary comes from.

    Attributes:
        environments: hashes of the machines and software, as in environment.json.
        commit: of the campaign's folder, see `git_commit`.
        health: of the services.
        spending: what the run has taken; None: nothing has run.
    """

    campaign: Campaign
    run: RunInfo
    environments: tuple[str, ...]
    commit: str | None
    health: HealthTally = field(default_factory=HealthTally)
    spending: SpendingReport | None = None


def git_commit(folder: Path) -> str | None:
    """Return the commit checked out in `folder`, `-dirty` if tracked files differ; None outside git."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout.strip()


# --- Summary ---


def write_summary(store: ResultStore, summary: Summary, facts: SummaryFacts) -> None:
    """Write summary.json and summary.csv, each atomically.

    Raises:
        StorageError: the disk refuses.
    """
    spending = facts.spending.model_dump(mode="json") if facts.spending else None
    happened = {"health": asdict(facts.health), "spending": spending}
    store.write_parts(SUMMARY_JSON, summary_json(summary, _origin(facts) | _settings(facts) | happened))
    axes = list(dict.fromkeys(name for row in summary.rows for name in row.axes))
    columns = columns_of(summary_row(row, facts, axes) for row in summary.rows[:1])  # all have the same
    rows = (cells(summary_row(row, facts, axes)) for row in summary.rows)
    store.write_text(SUMMARY_CSV, as_page(rows, columns))


def summary_json(summary: Summary, head: dict[str, Any]) -> Iterator[str]:
    """Yield summary.json part by part: that of 10,000 configurations, whole, would take a gigabyte of memory."""
    head |= summary.model_dump(mode="json", exclude={"rows", "groups"})
    yield json.dumps(head, indent=2, allow_nan=False).removesuffix("\n}")
    for name, rows in (("rows", summary.rows), ("groups", summary.groups)):
        yield f',\n  "{name}": ['
        for number, row in enumerate(rows):
            yield f"{',' if number else ''}\n    {row.model_dump_json()}"
        yield "\n  ]" if rows else "]"
    yield "\n}\n"


def summary_row(row: RowSummary, facts: SummaryFacts, axes: Iterable[str] = ()) -> Row:
    """Return the row of one configuration in summary.csv, by column; all of `axes` have one."""
    return {
        **numbers_row(row, axes),
        "seed": facts.run.seed,
        "structure": facts.campaign.execution.structure,
        **{name: value for name, value in _origin(facts).items() if name not in {"created", "updated"}},
        "environments": listed(facts.environments),
    }


def numbers_row(row: RowSummary, axes: Iterable[str] = ()) -> Row:
    """Return what such a row says of the configuration itself, without where it comes from."""
    return {
        "spec_hash": row.key,
        "label": row.label,
        **{f"axis:{name}": row.axes.get(name) for name in dict.fromkeys([*axes, *row.axes])},
        "n": row.n,
        "of": row.of,
        "launches": row.launches,
        "sources": listed(row.sources),
        "flags": _counts(row.flags),
        "failures": _counts(row.failures),
        "note": row.note,
        **{column: value for name in METRICS for column, value in _estimate(row.metrics[name]).items()},
    }


def _estimate(summary: MetricSummary) -> Row:
    name, interval = summary.metric, summary.interval
    return {
        name: summary.center,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
        f"{name}_method": interval.method if interval else None,
        f"{name}_level": interval.level if interval else None,
        f"{name}_df": interval.df if interval else None,
        f"{name}_n": summary.n,
        f"{name}_sd_log": summary.sd_log,
        f"{name}_source": summary.source,
        **({f"{name}_parts": listed(summary.parts)} if METRICS[name].is_metered else {}),
    }


def _counts(counts: Mapping[str, int]) -> str:
    return listed(f"{name}={count}" for name, count in counts.items())


def _origin(facts: SummaryFacts) -> dict[str, Any]:
    return {
        "schema_version": SUMMARY_SCHEMA_VERSION,
        "campaign": facts.campaign.campaign_name,
        "campaign_key": facts.run.campaign_key,
        "campaign_sha256": facts.run.campaign_sha256,
        "run_id": facts.run.run_id,
        "environments": list(facts.environments),
        "tool_version": facts.run.tool_version,
        "git_commit": facts.commit,
        "created": facts.run.created.astimezone(UTC).isoformat(),
        "updated": datetime.now(UTC).isoformat(),
    }


def _settings(facts: SummaryFacts) -> dict[str, Any]:
    campaign = facts.campaign
    return {
        "seed": facts.run.seed,
        "structure": campaign.execution.structure,
        "cycles": campaign.execution.cycles,
        "recycle_cycles": campaign.execution.recycle_cycles,
        "force_cold_start": campaign.cold_start.force_cold_start,
        "confidence": campaign.confidence.model_dump(mode="json"),
        "group_by": list(campaign.group_by),
    }


# --- campaign.yaml ---


def write_campaign(store: ResultStore, campaign: Campaign) -> None:
    """Write the campaign as it was understood: options and `${NAME}` applied, every default filled in.

    Beside the campaign file, where its relative paths begin, it stands for the same campaign. What may be a
    secret (`notify.webhook_url`, `services.*.env` of names like HF_TOKEN) is left out.

    Raises:
        StorageError: the disk refuses.
    """
    values = campaign.model_dump(mode="json")
    values["experiments"] = [_experiment(entry) for entry in values["experiments"]]
    for service in values["services"].values():
        service["env"] = {name: _shown(name, value) for name, value in service["env"].items()}
    if values["notify"]["webhook_url"]:
        values["notify"]["webhook_url"] = NOT_WRITTEN
    head = "# The campaign with every default. Relative paths begin at the folder of the campaign file.\n"
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    store.write_text(CAMPAIGN_YAML, head + text)


def read_campaign(store: ResultStore) -> dict[str, Any]:
    """Return what a run's campaign.yaml says, key by key.

    Raises:
        OSError: there is none, because the run never got as far.
    """
    found: dict[str, Any] = yaml.safe_load((store.folder / CAMPAIGN_YAML).read_text(encoding="utf-8"))
    return found


class _Dumper(yaml.SafeDumper):
    """Writes text so that a campaign file's own rules read it back."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Quote what would be a number there (`1e-3`), and double the `$` that would begin a reference."""
        style = None if isinstance(resolve(text), str) else "'"
        return self.represent_scalar("tag:yaml.org,2002:str", text.replace("$", "$$"), style)


_Dumper.add_representer(str, _Dumper.represent_text)


def _experiment(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment as a campaign file writes it: its keys in place, or a file with overrides."""
    inline: dict[str, Any] = entry["inline"]
    return inline or {"config": entry["config"], "overrides": entry["overrides"]}


def _shown(name: str, value: str) -> str:
    return NOT_WRITTEN if _SECRET.search(name) else value
