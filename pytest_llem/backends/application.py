"""Proof of application: what a configuration demands, beside what the engine says that it applied.

The worker compares after the load, after the first pass of each configuration's warm-up, and when the configuration
has been served, whatever the backend.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from pytest_llem.backends.base import Demanding, Engine, EngineError
from pytest_llem.backends.sampling import resolve
from pytest_llem.records import Configuration

RELATIVE_TOLERANCE = 1e-6
"""Of two numbers that are not both whole: a value that went through a 32-bit float comes back within 6e-8."""


class Application(NamedTuple):
    """What a configuration asked of an engine and what the engine says that it applied, by the engine's names."""

    asked: dict[str, Any]
    effective: dict[str, Any]

    @property
    def unconfirmed(self) -> tuple[str, ...]:
        """The names that were asked for and of which the engine says nothing."""
        return tuple(name for name in self.asked if name not in self.effective)


def prove(engine: Engine, configuration: Configuration) -> Application:
    """Return what a configuration asked of an engine beside what was applied, if the two agree.

    Raises:
        EngineError: for anything that was asked and not applied, with both values.
    """
    found = Application(asked_of(engine, configuration), engine.effective())
    verify(found.asked, found.effective)
    return found


def verify(asked: Mapping[str, Any], effective: Mapping[str, Any]) -> None:
    """Compare what was asked with what was applied, as far as `effective` speaks of it.

    Raises:
        EngineError: for anything that was asked and not applied, with both values.
    """
    spoken_of = {name: value for name, value in asked.items() if name in effective}
    wrong = [
        f"{name} (asked {value!r}, applied {applied!r})"
        for name, value, applied in _differences(spoken_of, effective, "")
    ]
    if wrong:
        raise EngineError(f"the engine did not apply {', '.join(wrong)}")


def asked_of(engine: Engine, configuration: Configuration) -> dict[str, Any]:
    """Return what a configuration asks of an engine, in the engine's own words where it has some."""
    return engine.asked(configuration) if isinstance(engine, Demanding) else demanded(configuration)


def demanded(configuration: Configuration) -> dict[str, Any]:
    """Return what a configuration demands of any engine, by its own names: None demands nothing."""
    every = {
        "fp_precision": configuration.fp_precision,
        "output_length": configuration.output_length,
        "max_output_tokens": configuration.max_output_tokens,
        **asdict(resolve(configuration.decoder)),
        **configuration.parameters,
    }
    return {name: value for name, value in every.items() if value is not None}


def _differences(
    asked: Mapping[str, Any], applied: Mapping[str, Any], within: str
) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, asked and applied value; of a mapping in a mapping the entries, by dotted names."""
    for key, value in asked.items():
        name, got = f"{within}{key}", applied.get(key)
        if isinstance(value, Mapping) and isinstance(got, Mapping):
            yield from _differences(value, got, f"{name}.")
        elif not _agree(value, got):
            yield name, value, got


def _agree(asked: Any, applied: Any) -> bool:
    """Return whether two values are the same to a reader of YAML: 1 is 1.0, a list is a tuple, true is not 1."""
    if isinstance(asked, list | tuple) and isinstance(applied, list | tuple):
        return len(asked) == len(applied) and all(map(_agree, asked, applied))
    if isinstance(asked, bool) or isinstance(applied, bool):
        return asked is applied
    if isinstance(asked, float) or isinstance(applied, float):
        return _is_number(asked) and _is_number(applied) and _close(asked, applied)
    return bool(asked == applied)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _close(asked: float, applied: float) -> bool:
    return math.isclose(asked, applied, rel_tol=RELATIVE_TOLERANCE)
