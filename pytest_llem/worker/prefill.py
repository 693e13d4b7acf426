"""What the second window of an experiment adds: prefill by itself, and decode as what is left of the first window."""

from __future__ import annotations

from typing import NamedTuple

from pytest_llem.meters.choose import times_s
from pytest_llem.meters.sums import without
from pytest_llem.records import METRICS, PrefillReport, Quantity, unavailable
from pytest_llem.worker.energy import Account, Metered
from pytest_llem.worker.metrics import known, share
from pytest_llem.worker.tally import Tally

UNIT = METRICS["decode_energy_per_request_j"].unit
NOTHING_DECODED = unavailable(UNIT, "the answers have no token but the one that prefill makes")


class Phase(NamedTuple):
    """One of the two windows: what it was made of, and the energy of its work in J, domain `total`."""

    tally: Tally
    total_j: Quantity

    @property
    def output_tokens(self) -> float:
        """Mean output tokens of a request."""
        return self.tally.output_tokens / len(self.tally.requests)

    def per_request(self) -> Quantity:
        """Return the energy of a request."""
        return share(self.total_j, "energy_per_request_j", len(self.tally.requests))


def metrics(whole: Phase, prefill: Phase) -> dict[str, Quantity]:
    """Return the energy of a prompt token in prefill, of an output token in decode, and of a request in both.

    The two energies of a request add up to `energy_per_request_j`. Prefill makes the first token of an answer, so
    decode is divided by the others.
    """
    read = prefill.tally.prompt_tokens
    decoded = whole.output_tokens - prefill.output_tokens
    decode_j = decode(whole.per_request(), prefill.per_request()) if decoded > 0 else NOTHING_DECODED
    return {
        "prefill_energy_per_prompt_token_j": share(
            prefill.total_j, "prefill_energy_per_prompt_token_j", read
        ),
        "prefill_energy_per_request_j": prefill.per_request(),
        "decode_energy_per_output_token_j": share(decode_j, "decode_energy_per_output_token_j", decoded),
        "decode_energy_per_request_j": decode_j,
        "prefill_tokens_per_second": known(
            "prefill_tokens_per_second", read / prefill.tally.window_s, "clock", ""
        ),
    }


def decode(whole: Quantity, prefill: Quantity) -> Quantity:
    """Return the energy of a request without that of its prefill, or why the difference says nothing."""
    difference = without(whole, prefill)
    least = difference.resolution or 0.0
    if difference.value is None:
        return difference
    if whole.parts != prefill.parts:
        sums = (" + ".join(window.parts) for window in (whole, prefill))
        return unavailable(UNIT, f"the two windows were not metered alike: {', '.join(sums)}")
    if difference.value <= least:
        return unavailable(
            UNIT,
            f"the windows differ by {difference.value:.3g} J a request, which is not above the resolution of"
            f" {least:.3g} J: lengthen window.seconds or max_output_tokens",
        )
    return difference


def report(tally: Tally, energy: Account, metered: Metered) -> PrefillReport:
    """Return what is kept of the second window."""
    return PrefillReport(
        window_s=tally.window_s,
        energy_window_s=metered.end[0].at_s - metered.begin[0].at_s,
        passes=tally.passes,
        requests=len(tally.requests),
        prompt_tokens=tally.prompt_tokens,
        cached_tokens=tally.cached_tokens,
        padding_tokens=tally.padding_tokens,
        output_tokens=tally.output_tokens,
        energy_edges_s=times_s(metered.begin, metered.end),
        energy_j=energy.energy_j,
        edge_idle_j=energy.edge_idle_j,
    )
