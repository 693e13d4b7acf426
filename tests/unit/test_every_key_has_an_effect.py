"""No key without effect: the schema, the `NOT_YET` list and the tests are held against each other."""

from __future__ import annotations

import ast
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

from pytest_llem.backends.registry import registered
from pytest_llem.campaign.schema import NOT_YET, Campaign
from pytest_llem.records import Configuration

TESTS = Path(__file__).parent.parent
RECORDED_ONLY = {
    "schema_version": "accepted and recorded, as the format says",
}
SPELLED_OTHERWISE = {"defaults.backend": "grid.backends", "defaults.parameters": "the backends' sections"}


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation mentions."""
    if isinstance(annotation, type):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every key below a model by its dotted path; a mapping of models adds `*`."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        nested = list(models_in(field.annotation))
        if not nested:
            yield path
        is_mapping = typing.get_origin(field.annotation) is dict
        for inner in nested:
            yield from keys_of(inner, f"{path}.*." if is_mapping else f"{path}.")


def all_keys() -> set[str]:
    campaign = set(keys_of(Campaign))
    experiment = {f"defaults.{key}" for key in keys_of(Configuration)}
    sections = {
        f"{spec.name}.{name}"
        for spec in registered().values()
        if spec.engine and not spec.engine.startswith("abacus")
        for name in spec.parameters.model_fields
    }
    return (campaign | experiment | sections) - set(SPELLED_OTHERWISE)


@cache
def keys_with_tests() -> set[str]:
    """Return the keys that some test claims by `@pytest.mark.key("...")`."""
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.key":
                found |= {ast.literal_eval(argument) for argument in node.args}
    return found


@pytest.mark.parametrize("key", sorted(all_keys() - set(NOT_YET) - set(RECORDED_ONLY)))
def test_a_key_that_is_accepted_has_a_test_of_its_effect(key: str) -> None:
    """Every key outside NOT_YET is claimed by a test in which two of its values behave differently."""
    assert key in keys_with_tests()


def test_not_yet_names_keys_that_exist() -> None:
    """NOT_YET lists no key that the schema has lost or renamed."""
    assert set(NOT_YET) <= all_keys()


def test_no_test_claims_a_key_that_does_not_exist() -> None:
    """A claim for a key that was renamed or has no effect yet is a mistake."""
    assert keys_with_tests() <= all_keys() - set(NOT_YET)
