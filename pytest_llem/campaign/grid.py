"""From a campaign to its points: expanded, checked, judged by the rules, equal ones merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NamedTuple

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.blocks import Block, Exclusion, blocks, exclusions
from pytest_llem.campaign.drafts import Draft, explicit
from pytest_llem.campaign.effects import difference, without
from pytest_llem.campaign.findings import CampaignError, Findings, Problem, did_you_mean
from pytest_llem.campaign.garbage import collection_paused
from pytest_llem.campaign.host import Host
from pytest_llem.campaign.identity import Files, SpecHashes, engine_key, limited, slug, twin_hash
from pytest_llem.campaign.keys import experiment_keys, resolve_axis
from pytest_llem.campaign.loader import LoadedCampaign
from pytest_llem.campaign.naming import ALWAYS, Names
from pytest_llem.campaign.parts import PARAMETERS
from pytest_llem.campaign.rules import (
    FILTERED,
    WARNED,
    WITHOUT_EFFECT,
    Candidate,
    Figures,
    Finding,
    Idle,
    Judge,
    Surroundings,
    Verdict,
    candidate,
)
from pytest_llem.campaign.schema import Scalar
from pytest_llem.records import Configuration


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
        differences: how many of those differ from it, by words for the keys in which they do.
        figures: by reason, the numbers of the point that it holds of most.
        unjudged: by reason, the most that a point needs of a machine of which nothing is known.
        notes: what the author should hear.
    """

    points: tuple[Point, ...]
    filtered: tuple[Point, ...]
    generated: int
    merged: int
    differences: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)
    unjudged: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def reasons(self) -> dict[Verdict, Counter[str]]:
        """Return how many points were filtered and warned, by reason."""
        return {
            "filtered": Counter(chain.from_iterable(point.reasons for point in self.filtered)),
            "warned": Counter(chain.from_iterable(point.reasons for point in self.points)),
        }


def at_most(figures: Mapping[str, str], reason: str) -> str:
    """Return what follows a reason that has figures (`Expansion.figures`); of one that has none, nothing."""
    return f"; at most {figures[reason]}" if reason in figures else ""


@collection_paused()
def expand(
    loaded: LoadedCampaign,
    backends: Mapping[str, BackendSpec],
    executor: str = "local",
    host: Host | None = None,
) -> Expansion:
    """Return the points of a campaign.

    Args:
        loaded: the campaign and its explicit experiments.
        backends: by name.
        executor: where experiments run; part of each point's hash.
        host: the machine on which they run; None where nothing is known of it.

    Raises:
        CampaignError: no point is left, there are too many, or a key names something that does not exist.
    """
    campaign = loaded.campaign
    grid = blocks(campaign, backends)
    generated = _generated(loaded, grid)
    _check_number(generated, loaded)
    experiments = explicit(loaded, backends)
    names = Names(
        [
            *({name: {value} for name, value in draft.axes.items()} for draft in experiments),
            *(b.values() for b in grid),
        ],
        ((draft.spec.name, draft.config_name) for draft in experiments),
    )
    _check_group_by(loaded, names, backends)
    excluding = exclusions(loaded, grid)
    files = _files(loaded, host)
    hashes = SpecHashes(window=campaign.window, execution=campaign.execution, executor=executor, files=files)
    judging, collected = _Judging(Surroundings(files, host)), _Collection(names, hashes)
    for draft in chain(experiments, *(block.drafts(excluding) for block in grid)):
        collected.add(judging.judged(draft))
    expansion = collected.expansion(generated, excluding)
    if not expansion.points:
        raise _refusal(loaded, _why_none_can_run(expansion))
    return expansion


def needed_backends(
    loaded: LoadedCampaign, backends: Mapping[str, BackendSpec], host: Host | None = None
) -> list[str]:
    """Return the backends of a campaign that have a point to run, without looking at all points.

    Raises:
        CampaignError: there are too many points, or an exclusion names something that does not exist.
    """
    judging = _Judging(Surroundings(_files(loaded, host), host))
    grid = blocks(loaded.campaign, backends)
    _check_number(_generated(loaded, grid), loaded)
    excluding = exclusions(loaded, grid)
    needed: set[str] = set()
    for spec, drafts in chain(
        ((draft.spec, [draft]) for draft in explicit(loaded, backends)),
        ((block.spec, block.drafts(excluding)) for block in grid),
    ):
        if spec.name not in needed and any(map(judging.runs, drafts)):
            needed.add(spec.name)
    return sorted(needed)


def _files(loaded: LoadedCampaign, host: Host | None) -> Files:
    return Files(loaded.rootdir, host.hub if host else None)


def _generated(loaded: LoadedCampaign, grid: Sequence[Block]) -> int:
    return len(loaded.fragments) + sum(block.size for block in grid)


def _check_number(generated: int, loaded: LoadedCampaign) -> None:
    execution = loaded.campaign.execution
    experiments = generated * execution.cycles
    if experiments > execution.max_experiments:
        raise _refusal(
            loaded,
            f"{generated:,} points x {execution.cycles:,} cycles are {experiments:,} experiments, more than"
            f" execution.max_experiments ({execution.max_experiments:,}): shorten an axis or raise it",
        )


def _check_group_by(loaded: LoadedCampaign, names: Names, backends: Mapping[str, BackendSpec]) -> None:
    keys = experiment_keys(backends).keys
    known = {*ALWAYS, *names.short, *names.short.values(), *keys}
    findings = Findings()
    for i, name in enumerate(loaded.campaign.group_by):
        meanings = (resolve_axis(name, spec) for spec in backends.values())
        if name not in known and not any(path in keys for path in meanings):
            words = f"{name!r} is neither an axis nor a key{did_you_mean(name, known)}"
            findings.problem(loaded.document.place("group_by", i), f"group_by[{i}]: {words}")
    findings.raise_any()


def _why_none_can_run(expansion: Expansion) -> str:
    counted = "; ".join(
        f"{reason} ({count:,}){at_most(expansion.figures, reason)}"
        for reason, count in expansion.reasons()["filtered"].most_common()
    )
    return f"none of {expansion.generated:,} points can run: {counted}"


def _refusal(loaded: LoadedCampaign, message: str) -> CampaignError:
    """Return what is wrong with all points together, placed at the grid."""
    return CampaignError([Problem(str(loaded.document.place("grid")), message)])


class _Judged(NamedTuple):
    """A draft without what has no effect in it, what the rules say of it, and what they could say elsewhere."""

    draft: Draft
    texts: Mapping[str, str]
    verdict: Verdict
    findings: Sequence[Finding]
    unjudged: Sequence[Finding] = ()
    idle: Sequence[Idle] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Those of the verdict."""
        return tuple(finding.reason for finding in self.findings)


class _Judging:
    """Has the drafts of one campaign judged."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._judge = Judge(FILTERED, WARNED, WITHOUT_EFFECT)

    def judged(self, draft: Draft) -> _Judged:
        """Return what becomes of a draft."""
        if refused := draft.excluded + draft.parts[PARAMETERS].refusal:
            return _Judged(draft, {}, "filtered", [Finding("filtered", reason) for reason in refused])
        it = self._candidate(draft)
        idle = self._judge.idle(it)
        effective = without(draft, idle)
        if effective is not draft:
            it = self._candidate(effective)
        found = self._judge.findings(it)
        unjudged = [finding for finding in found if finding.verdict == "valid"]
        findings = [finding for finding in found if finding.verdict != "valid"]
        if not findings or findings[0].verdict != "filtered":
            findings += (Finding("warned", one.reason) for one in idle if one.value is not None)
        verdict = findings[0].verdict if findings else "valid"
        return _Judged(effective, it.texts, verdict, findings, unjudged, idle)

    def runs(self, draft: Draft) -> bool:
        """Return whether a draft is not filtered."""
        return self.judged(draft).verdict != "filtered"

    def _candidate(self, draft: Draft) -> Candidate:
        return candidate(draft.spec, draft.parts, self._surroundings, draft.sections)


class _Collection:
    """The points of one campaign as they are found."""

    def __init__(self, names: Names, hashes: SpecHashes) -> None:
        self._names = names
        self._hashes = hashes
        self._ids: set[str] = set()
        self._points: dict[str, Point] = {}
        self._idle: dict[str, Sequence[Idle]] = {}
        self._merged: Counter[str] = Counter()
        self._differences: Counter[str] = Counter()
        self._filtered: list[Point] = []
        self._figures: dict[str, Figures] = {}
        self._unjudged: dict[str, Figures] = {}

    def add(self, judged: _Judged) -> None:
        """Keep a draft as a point, or count it with its equal."""
        _keep_largest(self._figures, judged.findings)
        _keep_largest(self._unjudged, judged.unjudged)
        if judged.verdict == "filtered":
            self._filtered.append(self._point(judged))
            return
        digest = self._hash(judged)
        if digest in self._points:
            self._merged[digest] += 1
            self._differences[difference(judged.idle, self._idle.get(digest, ()))] += 1
        else:
            self._points[digest] = self._point(judged, digest)
            if written := [one for one in judged.idle if one.value is not None]:
                self._idle[digest] = written

    def expansion(self, generated: int, excluding: Sequence[Exclusion]) -> Expansion:
        """Return all that was found."""
        reasons = {reason for point in self._filtered for reason in point.reasons}
        points = (
            replace(p, merged=1 + n) if (n := self._merged[p.spec_hash]) else p for p in self._points.values()
        )
        return Expansion(
            points=tuple(points),
            filtered=tuple(self._filtered),
            generated=generated,
            merged=self._merged.total(),
            differences={what: count for what, count in self._differences.most_common() if what},
            figures={reason: largest.text for reason, largest in self._figures.items()},
            unjudged={reason: largest.text for reason, largest in self._unjudged.items()},
            notes=tuple(f"{e.where} matches no point" for e in excluding if e.reason not in reasons),
        )

    def _point(self, judged: _Judged, digest: str = "") -> Point:
        draft = judged.draft
        words = self._names.words(draft)
        point_id = "-".join(map(slug, words))
        if digest:
            point_id = limited(point_id, self._ids)
            self._ids.add(point_id)
        return Point(
            id=point_id,
            label=" ".join(words),
            axes=self._names.axes(draft),
            configuration=_configuration(draft),
            spec_hash=digest,
            engine_key=engine_key(judged.texts, draft.spec) if digest else "",
            verdict=judged.verdict,
            reasons=judged.reasons,
        )

    def _hash(self, judged: _Judged) -> str:
        """Return the hash of a configuration; equal ones stay apart when they have different names."""
        plain = self._hashes.of(judged.draft.parts, judged.texts)
        own, equal = judged.draft.config_name, self._points.get(plain)
        if equal is None or own in (None, equal.configuration.config_name):
            return plain
        return twin_hash(plain, own)


def _keep_largest(figures: dict[str, Figures], findings: Iterable[Finding]) -> None:
    for finding in findings:
        if finding.figures:
            largest = figures.get(finding.reason, finding.figures)
            figures[finding.reason] = max(largest, finding.figures)


def _configuration(draft: Draft) -> Configuration:
    """Return the configuration of a draft. Its parts are checked, and are shared with all points that have them."""
    fields = {name: part.value for name, part in draft.parts.items()}
    return _BLANK.model_copy(update=fields | {"config_name": draft.config_name})


_BLANK = Configuration()
