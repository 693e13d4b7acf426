"""What pydantic objects to, in plain words: what is expected, what was found, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from pytest_llem.campaign.document import KeyPath, Node, dotted
from pytest_llem.campaign.findings import did_you_mean
from pytest_llem.campaign.scalars import resolve

_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "some text",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_short": "at least {min_length} in the list",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}
_CONTAINERS = ("a list", "a mapping")


def complaints(error: ValidationError, node: Node) -> Iterator[tuple[KeyPath, Node, str]]:
    """Yield where inside `node` each problem lies, the value there, and one sentence without a full stop.

    What the branches of a union say of one value becomes one sentence.
    """
    details: dict[KeyPath, list[Any]] = {}
    for detail in error.errors(include_url=False):
        details.setdefault(node.follow(detail["loc"])[0], []).append(detail)
    for path, group in details.items():
        _, value = node.follow(path)
        yield path, value, _sentence(group, value)


def expected(what: str, node: Node) -> str:
    """Return `expected a whole number, found the text 'ten'` with a hint where one is plain."""
    hint = ""
    if what.startswith("a list") and not isinstance(node.value, list | dict):
        hint = f"; write [{node.text}]"
    elif "text" in what and isinstance(node.value, bool | int | float):
        hint = f'; quote it: "{node.text}"'
    elif _is_quoted(node) and "text" not in what and what not in _CONTAINERS:
        hint = "; remove the quotes"
    return f"expected {what}, found {found(node)}{hint}"


def _is_quoted(node: Node) -> bool:
    """Return whether a text would be something else without its quotes."""
    return isinstance(node.value, str) and not isinstance(resolve(node.value), str)


def found(node: Node) -> str:
    """Return a value with its kind, as its author would name it."""
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 40 else value[:37] + '...'!r}"
    return f"the {'boolean' if isinstance(value, bool) else 'number'} {node.text[:40]}"


def _sentence(details: list[Any], node: Node) -> str:
    first = details[0]
    if first["type"] == "missing":
        return f"the key '{first['loc'][-1]}' is missing"
    if first["type"] == "extra_forbidden":
        return f"unknown key '{dotted(first['loc'][-1:])}'"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    wanted = dict.fromkeys(_wanted(detail) for detail in details)
    literals = [option for detail in details for option in _options(detail)]
    hint = did_you_mean(node.value, literals) if isinstance(node.value, str) else ""
    return expected(" or ".join(wanted), node) + hint


def _wanted(detail: Any) -> str:
    if template := _EXPECTED.get(detail["type"]):
        return template.format(**{name: _whole(bound) for name, bound in detail.get("ctx", {}).items()})
    return str(detail["msg"]).removeprefix("Input should be ").lower()


def _whole(bound: Any) -> Any:
    """Return 0.0 as 0."""
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _options(detail: Any) -> list[str]:
    """Return the texts that a literal allows."""
    return re.findall("'([^']*)'", detail["ctx"]["expected"]) if detail["type"] == "literal_error" else []
