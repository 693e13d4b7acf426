"""Asks the rules about points: a rule is asked once about all points that do not differ in what it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Generic, Literal, NamedTuple, TypeVar

from pytest_llem.campaign.rules.rule import (
    DERIVED,
    Candidate,
    Figures,
    Rule,
    Unjudged,
    WithoutEffect,
    arguments,
)

Verdict = Literal["valid", "filtered", "warned"]
Answer = TypeVar("Answer")

REMEMBERED = 4096
"""Answers that are kept of a question. Points come in the order of the axes: those that share a part, together."""

SHARED = frozenset({"spec", "files", "host"})
"""Facts that are one for all points of a backend."""


class Finding(NamedTuple):
    """What a rule says of a point. One that is valid has figures, of which a known machine would be told."""

    verdict: Verdict
    reason: str
    figures: Figures | None = None


class Idle(NamedTuple):
    """A key that has no effect in a point.

    Attributes:
        value: what the point sets it to; None where it is at its default.
        why: what follows "has no effect".
    """

    key: str
    value: object
    why: str

    @property
    def reason(self) -> str:
        """What is said of a point that sets the key."""
        return f"{self.key} has no effect {self.why}"


class Judge:
    """Says of the points of one campaign what the rules say."""

    def __init__(
        self, filtered: Sequence[Rule], warned: Sequence[Rule], without_effect: Sequence[WithoutEffect]
    ) -> None:
        self._rules = [_finding("filtered", rule) for rule in filtered]
        self._rules += [_finding("warned", rule) for rule in warned]
        self._without_effect = [_idle(one) for one in without_effect]
        self._asked: dict[str, tuple[list[_Question[Idle]], list[_Question[Finding]]]] = {}

    def idle(self, it: Candidate) -> list[Idle]:
        """Return the keys that have no effect in a point."""
        questions, _ = self._questions(it.spec.name)
        return _answers(questions, it)

    def findings(self, it: Candidate) -> list[Finding]:
        """Return the gravest of what is to be said of a point."""
        _, questions = self._questions(it.spec.name)
        found = _answers(questions, it)
        gravest = [finding for finding in found if finding.verdict == "filtered"]
        return gravest or found

    def _questions(self, backend: str) -> tuple[list[_Question[Idle]], list[_Question[Finding]]]:
        if backend not in self._asked:
            self._asked[backend] = _joined(self._without_effect, backend), _joined(self._rules, backend)
        return self._asked[backend]


class _Asked(NamedTuple, Generic[Answer]):
    """One rule as a function of the point."""

    backend: str | None
    reads: tuple[str, ...]
    answers: Callable[[Candidate], Iterator[Answer]]


class _Question(Generic[Answer]):
    """Rules that read the same, asked together."""

    def __init__(self, reads: Iterable[str], rules: Sequence[_Asked[Answer]]) -> None:
        self._rules = rules
        self.concerned = itemgetter("backend", *reads)
        self.known: dict[tuple[str, ...], tuple[Answer, ...]] = {}

    def ask(self, it: Candidate) -> tuple[Answer, ...]:
        if len(self.known) == REMEMBERED:
            self.known.clear()
        found = tuple(answer for rule in self._rules for answer in rule.answers(it))
        self.known[self.concerned(it.texts)] = found
        return found


def _answers(questions: Iterable[_Question[Answer]], it: Candidate) -> list[Answer]:
    """Return all answers about a point; this is what is done for each point, so those that are known come first."""
    texts = it.texts
    found: list[Answer] = []
    for question in questions:
        answers = question.known.get(question.concerned(texts))
        if answers is None:
            answers = question.ask(it)
        if answers:
            found += answers
    return found


def _joined(rules: Iterable[_Asked[Answer]], backend: str) -> list[_Question[Answer]]:
    """Return the rules that look at a backend, those that read the same in one question."""
    groups: dict[frozenset[str], list[_Asked[Answer]]] = {}
    for rule in rules:
        if rule.backend in (None, backend):
            groups.setdefault(frozenset(_fields(rule.reads)), []).append(rule)
    return [_Question(sorted(reads), together) for reads, together in groups.items()]


def _fields(facts: Iterable[str]) -> Iterator[str]:
    """Yield what facts are made of, but for what is the same for all points."""
    for name in facts:
        if name in DERIVED:
            yield from _fields(arguments(DERIVED[name]))
        elif name not in SHARED:
            yield name


def _finding(verdict: Verdict, rule: Rule) -> _Asked[Finding]:
    def answers(it: Candidate) -> Iterator[Finding]:
        found = it.ask(rule.holds)
        reason = rule.reason.format(backend=it.spec.name)
        if found is None:
            yield Finding("warned", f"perhaps, not to be judged from here: {reason}")
        elif isinstance(found, Unjudged):
            yield Finding("valid", reason, found.figures)
        elif found:
            yield Finding(verdict, reason, found if isinstance(found, Figures) else None)

    return _Asked(rule.backend, rule.reads, answers)


def _idle(one: WithoutEffect) -> _Asked[Idle]:
    def answers(it: Candidate) -> Iterator[Idle]:
        if it.ask(one.when):
            for key in one.keys:
                value, default = it.setting(key)
                yield Idle(key, None if value == default else value, one.why)

    return _Asked(one.backend, (*one.reads, *one.places), answers)
