"""The keys of an experiment and of a campaign by dotted path, for the backends that are installed.

An experiment key is a field of `records.Configuration` or, behind a backend's name, one of its parameters.
Each value is checked alone, so a fragment may leave out whatever it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.document import Mark, dotted, node_of
from pytest_llem.campaign.schema import Campaign, SafeName, Service
from pytest_llem.campaign.tables import Key, Table, table_of
from pytest_llem.campaign.words import complaints
from pytest_llem.records import Configuration

BATCH_SIZE = "batch_size"
"""The shared short form: in each backend's section it is that backend's own batch parameter."""


def _model_name(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError(f"{value!r} names no model: write a hub id, a folder, or random: and one of them")
    return value


ModelName = Annotated[str, AfterValidator(_model_name)]


class InvalidValueError(ValueError):
    """A key or its value is wrong; the message is one sentence in plain words."""


def experiment_keys(backends: Mapping[str, BackendSpec]) -> Table:
    """Return the keys that one experiment may set."""
    return _experiment_keys(tuple(backends.items()))


@cache
def _experiment_keys(backends: tuple[tuple[str, BackendSpec], ...]) -> Table:
    names = tuple(name for name, _ in backends)
    common = table_of(Configuration)
    keys = {name: key for name, key in common.keys.items() if name != "parameters"}
    keys["config_name"] = Key("config_name", SafeName | None, None)
    keys["model_name"] = Key("model_name", ModelName, "", required=True)
    keys["backend"] = Key("backend", Literal[names], "", required=True)
    sections = set(common.sections)
    for name, spec in backends:
        own = table_of(spec.parameters, f"{name}.")
        keys |= own.keys
        sections |= {name} | own.sections
    return Table(keys, frozenset(sections), common.optional, (BATCH_SIZE,))


@cache
def campaign_keys(backends: tuple[str, ...]) -> Table:
    """Return the keys of a campaign; below `services` there is one section a backend."""
    table = table_of(Campaign)
    keys = {name: key for name, key in table.keys.items() if name != "services"}
    keys["model"] = Key("model", ModelName | None, None)
    models = Annotated[tuple[ModelName, ...], Field(min_length=1)]
    keys["grid.models"] = Key("grid.models", models | None, None)
    sections = {*table.sections, "services"}
    for name in backends:
        service = table_of(Service, f"services.{name}.")
        keys |= service.keys
        sections |= {f"services.{name}"} | service.sections
    return Table(keys, frozenset(sections), table.optional)


def check(dotted_path: str, value: Any, backends: Mapping[str, BackendSpec]) -> Any:
    """Return the value of one experiment key as the key's type.

    Args:
        dotted_path: such as `decoder.temperature` or `pytorch.batch_size`.
        value: as YAML would give it; None is the key's default.
        backends: by name.

    Raises:
        InvalidValueError: the key is unknown or does not take the value.
    """
    table = experiment_keys(backends)
    if dotted_path not in table.keys:
        raise InvalidValueError(f"{dotted_path}: {table.unknown(dotted_path)}")
    try:
        return table.keys[dotted_path].check(value)
    except ValidationError as error:
        node = node_of(value, Mark(dotted_path))
        parts = [f"{dotted((dotted_path, *path))}: {words}" for path, _, words in complaints(error, node)]
        raise InvalidValueError("; ".join(parts)) from None


def resolve_axis(name: str, spec: BackendSpec) -> str | None:
    """Return the dotted path that a short or dotted name means for one backend, None where it means nothing.

    `batch_size` is the backend's own batch parameter, a bare parameter name stands for the one in the
    backend's section, the name of a section is itself, and a name with another backend's prefix is None.
    """
    first = name.partition(".")[0]
    if name == BATCH_SIZE:
        return f"{spec.name}.{spec.batch_parameter}"
    if first == spec.name or (first in Configuration.model_fields and first != "parameters"):
        return name
    return f"{spec.name}.{name}" if first in spec.parameters.model_fields else None
