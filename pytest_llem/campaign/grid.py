"""From a campaign to its points: expanded, checked, judged by the rules, equal ones merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any

from pydantic import ValidationError

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.blocks import Exclusion, blocks, exclusions
from pytest_llem.campaign.drafts import Draft, GridError, explicit
from pytest_llem.campaign.findings import did_you_mean
from pytest_llem.campaign.identity import Files, engine_key, limited, slug, spec_hash, twin_hash
from pytest_llem.campaign.keys import experiment_keys, resolve_axis
from pytest_llem.campaign.loader import LoadedCampaign
from pytest_llem.campaign.naming import ALWAYS, Names
from pytest_llem.campaign.rules import Candidate, Verdict, judge
from pytest_llem.campaign.schema import Campaign, Scalar
from pytest_llem.records import (
    Baseline,
    Configuration,
    Dataset,
    Decoder,
    Load,
    Record,
    Timeseries,
    Warmup,
)

__all__ = ["Expansion", "GridError", "Point", "expand"]


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration of a campaign.

    Attributes:
        id: `label` in the characters of a node id; unique among the points that run, at most 108 bytes.
        label: backend and every axis that varies, for tables.
        axes: `backend`, `model`, a `config_name` of its own, and every axis that varies, by short name.
        spec_hash, engine_key: see `identity`; empty for a point that never runs.
        reasons: for the verdict.
        merged: how many equal points it stands for, itself included.
    """

    id: str
    label: str
    axes: dict[str, Scalar]
    configuration: Configuration
    spec_hash: str
    engine_key: str
    verdict: Verdict
    reasons: tuple[str, ...]
    merged: int = 1


@dataclass(frozen=True, slots=True)
class Expansion:
    """The points of a campaign.

    Attributes:
        points: those that run, valid and warned: explicit experiments, then the grid.
        filtered: those that never run.
        generated: points before any was filtered or merged.
        merged: points that equal another one and run as that.
        notes: what the author should hear.
    """

    points: tuple[Point, ...]
    filtered: tuple[Point, ...]
    generated: int
    merged: int
    notes: tuple[str, ...] = ()

    def reasons(self) -> dict[Verdict, Counter[str]]:
        """Return how many points were filtered and warned, by reason."""
        return {
            "filtered": Counter(chain.from_iterable(point.reasons for point in self.filtered)),
            "warned": Counter(chain.from_iterable(point.reasons for point in self.points)),
        }


def expand(loaded: LoadedCampaign, backends: Mapping[str, BackendSpec], executor: str = "local") -> Expansion:
    """Return the points of a campaign.

    Args:
        loaded: the campaign and its explicit experiments.
        backends: by name.
        executor: where experiments run; part of each point's hash.

    Raises:
        GridError: no point is left, there are too many, or a key names something that does not exist.
    """
    campaign = loaded.campaign
    grid = blocks(campaign, backends)
    generated = len(loaded.fragments) + sum(block.size for block in grid)
    _check_number(generated, campaign)
    experiments = explicit(loaded, backends)
    names = Names(
        [
            *({name: {value} for name, value in draft.axes.items()} for draft in experiments),
            *(b.values() for b in grid),
        ],
        ((draft.spec.name, draft.config_name) for draft in experiments),
    )
    _check_group_by(campaign, names, backends)
    excluding = exclusions(campaign.grid, grid) if campaign.grid else []
    collected = _Collection(loaded, names, frozenset(backends), executor)
    for draft in chain(experiments, *(block.drafts(excluding) for block in grid)):
        collected.add(draft)
    return collected.expansion(generated, excluding)


def _check_number(generated: int, campaign: Campaign) -> None:
    execution = campaign.execution
    experiments = generated * execution.cycles
    if experiments > execution.max_experiments:
        raise GridError(
            f"{generated:,} points x {execution.cycles:,} cycles are {experiments:,} experiments, more than"
            f" execution.max_experiments ({execution.max_experiments:,}): shorten an axis or raise it"
        )


def _check_group_by(campaign: Campaign, names: Names, backends: Mapping[str, BackendSpec]) -> None:
    keys = experiment_keys(backends).keys
    known = {*ALWAYS, *names.short, *names.short.values(), *keys}
    for name in campaign.group_by:
        meanings = (resolve_axis(name, spec) for spec in backends.values())
        if name not in known and not any(path in keys for path in meanings):
            raise GridError(f"group_by: {name!r} is neither an axis nor a key{did_you_mean(name, known)}")


class _Collection:
    """The points of one campaign as they are found."""

    def __init__(self, loaded: LoadedCampaign, names: Names, backends: frozenset[str], executor: str) -> None:
        self._campaign = loaded.campaign
        self._files = Files(loaded.rootdir)
        self._names = names
        self._backends = backends
        self._executor = executor
        self._points: dict[str, Point] = {}
        self._filtered: list[Point] = []
        self._merged: Counter[str] = Counter()
        self._ids: set[str] = set()

    def add(self, draft: Draft) -> None:
        """Check a draft, and keep it as a point or count it with its equal."""
        parameters, refusal = _section(draft)
        configuration = _configuration(draft, parameters, self._backends)
        if reasons := draft.excluded + refusal:
            verdict: Verdict = "filtered"
        else:
            candidate = Candidate(configuration, parameters, draft.spec, self._files, draft.sections)
            verdict, reasons = judge(candidate)
        if verdict == "filtered":
            self._filtered.append(self._point(draft, configuration, verdict, reasons))
            return
        digest = self._hash(configuration)
        if digest in self._points:
            self._merged[digest] += 1
        else:
            self._points[digest] = self._point(draft, configuration, verdict, reasons, digest)

    def expansion(self, generated: int, excluding: Sequence[Exclusion]) -> Expansion:
        """Return all that was found.

        Raises:
            GridError: nothing is left to run.
        """
        reasons = Counter(reason for point in self._filtered for reason in point.reasons)
        if not self._points:
            counted = "; ".join(f"{reason} ({n:,})" for reason, n in reasons.most_common())
            raise GridError(f"none of {generated:,} points can run: {counted}")
        points = (
            replace(p, merged=1 + n) if (n := self._merged[p.spec_hash]) else p for p in self._points.values()
        )
        return Expansion(
            points=tuple(points),
            filtered=tuple(self._filtered),
            generated=generated,
            merged=self._merged.total(),
            notes=tuple(f"{e.where} matches no point" for e in excluding if e.reason not in reasons),
        )

    def _point(
        self,
        draft: Draft,
        configuration: Configuration,
        verdict: Verdict,
        reasons: tuple[str, ...],
        digest: str = "",
    ) -> Point:
        words = self._names.words(draft)
        point_id = "-".join(map(slug, words))
        if digest:
            point_id = limited(point_id, self._ids)
            self._ids.add(point_id)
        return Point(
            id=point_id,
            label=" ".join(words),
            axes=self._names.axes(draft),
            configuration=configuration,
            spec_hash=digest,
            engine_key=engine_key(configuration, draft.spec) if digest else "",
            verdict=verdict,
            reasons=reasons,
        )

    def _hash(self, configuration: Configuration) -> str:
        """Return the hash of a configuration; equal ones stay apart when they have different names."""
        plain = spec_hash(
            configuration,
            window=self._campaign.window,
            execution=self._campaign.execution,
            executor=self._executor,
            files=self._files,
        )
        own, equal = configuration.config_name, self._points.get(plain)
        if equal is None or own in (None, equal.configuration.config_name):
            return plain
        return twin_hash(plain, own)


def _section(draft: Draft) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the parameters of a draft's backend, all of them, and what the backend has against them."""
    section = draft.fragment.get(draft.spec.name, {})
    try:
        return draft.spec.parameters.model_validate(section).model_dump(mode="json"), ()
    except ValidationError as error:
        words = (problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        return section, tuple(f"{draft.spec.name}: {each}" for each in words)


_NESTED: Mapping[str, type[Record]] = {
    "dataset": Dataset,
    "decoder": Decoder,
    "load": Load,
    "warmup": Warmup,
    "baseline": Baseline,
    "timeseries": Timeseries,
}


def _configuration(draft: Draft, parameters: dict[str, Any], backends: frozenset[str]) -> Configuration:
    """Return the configuration of a draft; sections of other backends stay out."""
    fields: dict[str, Any] = {
        "config_name": draft.config_name,
        "backend": draft.spec.name,
        "parameters": parameters,
    }
    for key, value in draft.fragment.items():
        if key not in backends:
            nested = key in _NESTED and isinstance(value, dict)
            fields[key] = _shared(_NESTED[key], **value) if nested else value
    return Configuration.model_validate(fields)


@lru_cache(maxsize=4096, typed=True)
def _shared(model: type[Record], **fields: Any) -> Record:
    """Return one instance for all points with these values: records are immutable, and points are many."""
    return model(**fields)
