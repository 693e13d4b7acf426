"""What an unquoted scalar of YAML means, and `${NAME}` in it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial

Scalar = str | int | float | bool | None

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **{spell(word): True for word in ("true", "yes", "on") for spell in (str, str.title, str.upper)},
    **{spell(word): False for word in ("false", "no", "off") for spell in (str, str.title, str.upper)},
}
_MEANINGS: tuple[tuple[str, Callable[[str], float | datetime]], ...] = (
    (r"[-+]?(?:0|[1-9][0-9_]{0,30}|0x[0-9a-fA-F]{1,32})", partial(int, base=0)),
    (r"[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", float),
    (r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", lambda text: float(text.replace(".", ""))),
    (r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ].*)?", datetime.fromisoformat),
)
_REFERENCE = re.compile(
    r"\$(?:\$|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<broken>\{))"
)


def resolve(text: str) -> Scalar | datetime:
    """Return what an unquoted scalar means.

    YAML 1.1 where that is usual: `on`, `yes` and dates are no text, so a text like that must be quoted.
    YAML 1.2 where 1.1 surprises: `1e-3` is a number, `12:30` and `010` are text.
    """
    if text in _WORDS:
        return _WORDS[text]
    for pattern, meaning in _MEANINGS:
        if re.fullmatch(pattern, text):
            with suppress(ValueError):
                return meaning(text)
    return text


def expand(text: str) -> str:
    """Replace `${NAME}` and `${NAME:-default}` by the environment's values and `$$` by `$`.

    As in a shell, the default also stands in for an empty value.

    Raises:
        ValueError: a variable without default is not set, or `${` is followed by something else.
    """

    def replacement(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match["broken"]:
            raise ValueError(
                "after '${' a name is expected, as in ${NAME} or ${NAME:-default}; '$${' is a plain '${'"
            )
        if name is None:
            return "$"
        value = os.environ.get(name)
        if value is None and default is None:
            raise ValueError(
                f"the environment variable {name} is not set; set it or write ${{{name}:-default}}"
            )
        if default is not None and not value:
            return str(default)
        if value != (value or "").encode(errors="replace").decode():
            raise ValueError(f"the environment variable {name} is not UTF-8 text")
        return value or ""

    return _REFERENCE.sub(replacement, text)
