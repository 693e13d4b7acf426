"""What is found while a campaign is read: problems, which are raised together, and notes for the header."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        location: `campaigns/grid.yaml:12:5` (line and column count from 1), a path, or an option.
        message: the dotted key and one sentence.
    """

    location: str
    message: str

    def __str__(self) -> str:
        return f"{self.location}: {self.message}"


class CampaignError(Exception):
    """The campaign is not valid; `problems` says all that was found, `str()` one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"and {len(self.problems) - _SHOWN} more")
        return "\n".join(lines)


class UnreadableError(Exception):
    """Nothing more can be read from one document; why is among the findings."""


@dataclass(slots=True)
class Findings:
    """Problems and notes of one campaign with its experiment files.

    Attributes:
        problems: in the order in which they were found.
        notes: whole sentences.
        without_effect: keys of llenergymeasure v1 that were accepted and do nothing, as written.
        not_yet: keys of `schema.NOT_YET` that differ from their default.
        written: experiment keys that are set anywhere.
        v1_keys: keys that only llenergymeasure v1 knew.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    without_effect: dict[str, None] = field(default_factory=dict)
    not_yet: dict[str, None] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    v1_keys: set[str] = field(default_factory=set)
    _kept: set[Problem] = field(default_factory=set)

    def problem(self, where: object, message: str) -> None:
        """Keep a problem, once; `where` is a mark or any text that leads to the place."""
        problem = Problem(str(where), message)
        if problem not in self._kept:
            self._kept.add(problem)
            self.problems.append(problem)

    def stop(self, where: object, message: str) -> NoReturn:
        """Keep a problem behind which nothing can be read."""
        self.problem(where, message)
        raise UnreadableError

    def raise_any(self) -> None:
        """Raise `CampaignError` if there is a problem."""
        if self.problems:
            raise CampaignError(self.problems)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, else the empty string.

    A dotted name is also compared by its last part: `temperature` leads to `decoder.temperature`.
    """
    names = list(known)
    by_last_part = {candidate.rpartition(".")[2]: candidate for candidate in reversed(names)}
    last_part = name.rpartition(".")[2]
    near = difflib.get_close_matches(name, names, n=3)
    near += [by_last_part[part] for part in difflib.get_close_matches(last_part, by_last_part, n=3)]
    if not near:
        return ""

    def likeness(candidate: str) -> float:
        pairs = (last_part, candidate.rpartition(".")[2]), (name, candidate)
        return sum(difflib.SequenceMatcher(a=one, b=other).ratio() for one, other in pairs)

    return f"; did you mean '{max(near, key=likeness)}'?"
