"""What a rule is, and what it may look at."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from pytest_llem.architectures import Architecture
from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.host import Device, Host
from pytest_llem.campaign.identity import Files, Model
from pytest_llem.campaign.parts import DEFAULTS, PARAMETERS, Parts, field_default, texts_of
from pytest_llem.records import Dataset


class Figures(NamedTuple):
    """The numbers behind a finding; of all points that it is said of, those with the largest `size` are shown."""

    size: float
    text: str


class Unjudged(NamedTuple):
    """What a point needs of a machine of which nothing is known; of all points, the most is shown, once."""

    figures: Figures


Found = bool | Figures | Unjudged | None
"""Whether a rule speaks of a point, or the figures that make it do so. None: that cannot be judged here."""


@cache
def arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's arguments: the facts that it reads."""
    return tuple(inspect.signature(function).parameters)


@dataclass(frozen=True)
class Rule:
    """One thing that is known of configurations.

    Attributes:
        name: unique.
        holds: says what is found. Its arguments are named after the facts that it reads (`Candidate.fact`).
        reason: what is wrong, and what to do about it where that is not plain. Reasons are counted over a
            campaign, so none of them quotes what differs from point to point.
        backend: the only backend that the rule looks at; None: all.
    """

    name: str
    holds: Callable[..., Found]
    reason: str
    backend: str | None = None

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The facts that decide."""
        return arguments(self.holds)


@dataclass(frozen=True)
class WithoutEffect:
    """Keys that change nothing in some configurations: such a point is measured as the one without them.

    Attributes:
        name: unique.
        keys: such as `decoder.top_k`; those of the backend's own section without its name.
        when: says whether that is so; its arguments are facts, as those of `Rule.holds`.
        why: what follows "<key> has no effect".
        backend: as of a rule.
    """

    name: str
    keys: tuple[str, ...]
    when: Callable[..., bool]
    why: str
    backend: str | None = None

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The facts that decide."""
        return arguments(self.when)

    @cached_property
    def places(self) -> frozenset[str]:
        """The parts that the keys belong to."""
        return frozenset(place_of(key)[0] for key in self.keys)


class Surroundings(NamedTuple):
    """What all points of a campaign share; `host` is None where nothing is known of it."""

    files: Files
    host: Host | None = None


class Candidate(NamedTuple):
    """A point that is to be judged.

    Attributes:
        parts: what it sets.
        texts: of all fields, set or not.
        sections: backends whose sections an explicit experiment sets itself; empty for a grid point.
    """

    spec: BackendSpec
    parts: Parts
    texts: Mapping[str, str]
    surroundings: Surroundings
    sections: frozenset[str] = frozenset()

    def fact(self, name: str) -> Any:
        """Return what an argument of a rule stands for.

        A field of the configuration, with all parameters of its backend as `parameters`; one of `Candidate` or
        `Surroundings`; or one that follows from fields (`DERIVED`).
        """
        if name in DEFAULTS:
            return self.parts.get(name, DEFAULTS[name]).value
        if name in DERIVED:
            return self.ask(DERIVED[name])
        return getattr(self if name in self._fields else self.surroundings, name)

    def ask(self, question: Callable[..., Any]) -> Any:
        """Return what a function of facts says of the point."""
        return question(**{name: self.fact(name) for name in arguments(question)})

    def setting(self, key: str) -> tuple[Any, Any]:
        """Return the value of a key of `WithoutEffect`, and its default."""
        part, name = place_of(key)
        if part == PARAMETERS:
            return self.fact(part)[name], self.spec.parameters.model_fields[name].default
        return getattr(self.fact(part), name), field_default(part, name)


def candidate(
    spec: BackendSpec, parts: Parts, surroundings: Surroundings, sections: frozenset[str] = frozenset()
) -> Candidate:
    """Return a point that sets these parts."""
    texts = texts_of(parts)
    texts["sections"] = " ".join(sorted(sections))
    return Candidate(spec, parts, texts, surroundings, sections)


def _model(model_name: str, parameters: Mapping[str, Any], files: Files) -> Model:
    """Return what is known of the model, at the revision that its backend is to load."""
    return files.model(model_name, parameters.get("revision"))


def _config(model: Model) -> Mapping[str, Any]:
    """Return the model's `config.json`; {} where it is not on this machine."""
    return model.config


def _architecture(model: Model) -> Architecture | None:
    """Return what the model is made of; None where its `config.json` does not say."""
    return model.architecture


def _least_tokens(
    max_input_tokens: int,
    max_output_tokens: int,
    prompts_file: str | None,
    dataset: Dataset | None,
    output_length: str,
) -> int:
    """Return the tokens of a request that is sure to come: texts may be shorter, and natural ends earlier."""
    prompt_tokens = 1 if prompts_file or dataset else max_input_tokens
    return prompt_tokens + (max_output_tokens if output_length == "exact" else 1)


def _devices(host: Host | None, spec: BackendSpec, gpus: tuple[int | str, ...] | None) -> tuple[Device, ...]:
    """Return the GPUs that the point can use; none where none is known."""
    return host.of(spec.name, gpus) if host else ()


DERIVED: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "model": _model,
        "config": _config,
        "architecture": _architecture,
        "least_tokens": _least_tokens,
        "devices": _devices,
    }
)
"""Facts that follow from others, which are their arguments."""


def place_of(key: str) -> tuple[str, str]:
    """Return the part that a key of `WithoutEffect` belongs to, and its name in there."""
    section, dot, name = key.partition(".")
    return (section, name) if dot else (PARAMETERS, key)
