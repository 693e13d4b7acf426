"""One experiment in one line: its headline numbers, as they travel to the terminal and into JUnit XML.

Between processes of a session only `user_properties` travel, so a headline becomes plain strings and numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from pytest_llem.records import Measurement, Quantity, Result
from pytest_llem.reporting.digits import duration, number

_PROPERTIES = {
    "label": "llem_label",
    "cycle": "llem_cycle",
    "energy_per_output_token_j": "energy_per_output_token_j",
    "energy_source": "energy_source",
    "output_tokens_per_second": "output_tokens_per_second",
    "e2e_latency_ms": "e2e_latency_ms_mean",
    "failure_kind": "llem_failure_class",
    "failure_message": "llem_failure_message",
    "is_stored": "llem_stored",
}
"""Names of the fields of a `Headline` among a test's properties."""

MESSAGE_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Headline:
    """What one line says of an experiment; a number that is not known is None.

    Attributes:
        energy_source: of the energy (`records.Source`); None without a measurement.
        e2e_latency_ms: mean over the requests.
        failure_kind: class of the failure; None for a completed experiment.
        is_stored: True where the test was given a result that an earlier test or session has measured.
    """

    label: str
    cycle: int
    energy_per_output_token_j: float | None = None
    energy_source: str | None = None
    output_tokens_per_second: float | None = None
    e2e_latency_ms: float | None = None
    failure_kind: str | None = None
    failure_message: str | None = None
    is_stored: bool | None = None

    @classmethod
    def of(cls, result: Result, *, is_new: bool = True) -> Headline:
        """Return the headline of a result."""
        energy = _quantity(result.measurement, "energy_per_output_token_j")
        return cls(
            label=result.label,
            cycle=result.cycle,
            energy_per_output_token_j=energy.value if energy else None,
            energy_source=energy.source if energy else None,
            output_tokens_per_second=_value(result.measurement, "output_tokens_per_second"),
            e2e_latency_ms=_value(result.measurement, "e2e_latency_ms_mean"),
            failure_kind=result.failure.kind if result.failure else None,
            failure_message=" ".join(result.failure.message.split()) if result.failure else None,
            is_stored=None if is_new else True,
        )

    @classmethod
    def from_properties(cls, properties: Iterable[tuple[str, object]]) -> Headline | None:
        """Return the headline among a test's properties; None for a test that measured nothing."""
        found: dict[str, Any] = dict(properties)
        if _PROPERTIES["label"] not in found:
            return None
        return cls(**{field: found[name] for field, name in _PROPERTIES.items() if name in found})

    def to_properties(self) -> list[tuple[str, object]]:
        """Return what is known as pairs of a name, with its unit, and a plain value."""
        known = ((field.name, getattr(self, field.name)) for field in fields(self))
        return [
            (_PROPERTIES[name], value) if isinstance(value, float) else _shared(_PROPERTIES[name], value)
            for name, value in known
            if value is not None
        ]

    def energy_or_rate(self) -> str:
        """Return the one number to put beside PASSED: energy per token, without energy the throughput."""
        if self.energy_per_output_token_j is None and self.output_tokens_per_second is not None:
            return self._throughput()
        return self._energy()

    def numbers(self) -> str:
        """Return every known number with its unit, energy first; for a failure its class and message."""
        if self.failure_kind is not None:
            message = self.failure_message or ""
            cut = message if len(message) <= MESSAGE_WIDTH else f"{message[: MESSAGE_WIDTH - 4]} ..."
            return f"FAILED {self.failure_kind}: {cut}"
        numbers = [self._energy()]
        if self.output_tokens_per_second is not None:
            numbers.append(self._throughput())
        if self.e2e_latency_ms is not None:
            numbers.append(f"e2e {number(self.e2e_latency_ms)} ms")
        return "  ".join(numbers)

    def _energy(self) -> str:
        if self.energy_per_output_token_j is None:
            return "no energy"
        modelled = "~" if self.energy_source == "model" else ""
        return f"{modelled}{number(self.energy_per_output_token_j)} J/token"

    def _throughput(self) -> str:
        assert self.output_tokens_per_second is not None
        return f"{number(self.output_tokens_per_second)} token/s"


@lru_cache(maxsize=4096)
def _shared(name: str, value: object) -> tuple[str, object]:
    """Return the one pair that stands for all equal ones: pytest keeps those of every item to its end."""
    return name, value


def _quantity(measurement: Measurement | None, metric: str) -> Quantity | None:
    return measurement.metrics.get(metric) if measurement else None


def _value(measurement: Measurement | None, metric: str) -> float | None:
    quantity = _quantity(measurement, metric)
    return quantity.value if quantity else None


def progress(
    headline: Headline, *, done: int, of: int, cycles: int, left_s: float | None, label_width: int = 0
) -> str:
    """Return the line of an experiment that is over.

    Args:
        headline: of the experiment.
        done: how many experiments of the session are over, this one included.
        of: how many the session has.
        cycles: of the campaign.
        left_s: estimated time to the end of the session; None if not known.
        label_width: columns for the label, so that numbers stand below each other.
    """
    cycle = f"cycle {headline.cycle:>{len(str(cycles))}}/{cycles}"
    count = f"[{done:>{len(str(of))}}/{of}]"
    left = [] if left_s is None else [f"{duration(left_s)} left"]
    return "  ".join([cycle, headline.label.ljust(label_width), headline.numbers(), count, *left])


def time_left_s(elapsed_s: float, *, done: int, of: int) -> float | None:
    """Return how long the session has still to go; None before an experiment is over.

    The others are taken to need what the finished ones took on average of the wall time `elapsed_s`, with its
    gaps and loads.
    """
    return elapsed_s / done * (of - done) if done else None
