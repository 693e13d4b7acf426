"""The fields of a point, each checked and with its text: points are many, and few of their fields differ.

Rules, hashes and engine keys compare texts, so what they find out of one field serves every point that shares it.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.schema import Fragment
from pytest_llem.records import (
    Baseline,
    Configuration,
    Dataset,
    Decoder,
    Load,
    Prefill,
    Record,
    Timeseries,
    Warmup,
)


class Part(NamedTuple):
    """The value of one field of a configuration.

    Attributes:
        value: a scalar, a record, or all parameters of a backend.
        text: as JSON; equal values of a field have equal texts.
        refusal: what the backend has against its parameters.
    """

    value: Any
    text: str
    refusal: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self.text)


Parts = Mapping[str, Part]
"""By field of a configuration; what is not in it has its default."""

PARAMETERS = "parameters"

_NESTED: Mapping[str, type[Record]] = {
    "dataset": Dataset,
    "decoder": Decoder,
    "load": Load,
    "warmup": Warmup,
    "prefill": Prefill,
    "baseline": Baseline,
    "timeseries": Timeseries,
}
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def parts_of(fragment: Fragment, spec: BackendSpec, backends: Container[str]) -> dict[str, Part]:
    """Return the parts that a fragment sets; sections of other backends stay out."""
    parts: dict[str, Part] = {}
    for name, value in fragment.items():
        if name == spec.name:
            parts[PARAMETERS] = section(value, spec)
        elif name not in backends:
            parts[name] = _part(name, value)
    return parts


def section(written: Mapping[str, Any], spec: BackendSpec) -> Part:
    """Return all parameters of a backend, of which some are written."""
    try:
        parameters = spec.parameters.model_validate(written).model_dump(mode="json")
    except ValidationError as error:
        words = (problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        return Part(written, "", tuple(f"{spec.name}: {each}" for each in words))
    return Part(parameters, json.dumps(parameters, sort_keys=True, separators=(",", ":")))


@lru_cache(maxsize=4096)
def reset(part: Part, name: str, keys: frozenset[str], spec: BackendSpec) -> Part:
    """Return a record, or all parameters of a backend, with some of its keys at their defaults."""
    if name == PARAMETERS:
        return section({key: value for key, value in part.value.items() if key not in keys}, spec)
    return _record(_NESTED[name], **part.value.model_dump(exclude=set(keys), exclude_unset=True))


def field_default(name: str, key: str) -> Any:
    """Return the default of a field of a record such as `decoder`."""
    return _NESTED[name].model_fields[key].default


def _part(name: str, value: Any) -> Part:
    if name in _NESTED and isinstance(value, dict):
        return _record(_NESTED[name], **value)
    return _plain(getattr(Configuration.model_validate({name: value}), name))


@lru_cache(maxsize=4096, typed=True)
def _record(model: type[Record], **fields: Any) -> Part:
    """Return one instance for all points with these values: records are immutable."""
    return _plain(model(**fields))


def _plain(value: Any) -> Part:
    return Part(value, _ANY.dump_json(value).decode())


def texts_of(parts: Parts) -> dict[str, str]:
    """Return the texts of all fields of a configuration that sets these parts."""
    texts = dict(_DEFAULT_TEXTS)
    for name, part in parts.items():
        texts[name] = part.text
    return texts


def _defaults() -> dict[str, Part]:
    configuration = Configuration()
    return {name: _plain(getattr(configuration, name)) for name in Configuration.model_fields}


DEFAULTS: Parts = MappingProxyType(_defaults())
"""Of every field of a configuration."""

_DEFAULT_TEXTS = {name: part.text for name, part in DEFAULTS.items()}
