"""What is known before anything runs: what cannot work, what needs a word of warning, what changes nothing.

`FILTERED`, `WARNED` and `WITHOUT_EFFECT` are the whole list; docs/rules.md has a line for each.
"""

from pytest_llem.campaign.rules import engines, memory, models, pytorch, tensorrt, vllm, workload
from pytest_llem.campaign.rules.judge import Finding, Idle, Judge, Verdict
from pytest_llem.campaign.rules.rule import (
    Candidate,
    Figures,
    Rule,
    Surroundings,
    WithoutEffect,
    candidate,
    place_of,
)

__all__ = [
    "FILTERED",
    "WARNED",
    "WITHOUT_EFFECT",
    "Candidate",
    "Figures",
    "Finding",
    "Idle",
    "Judge",
    "Rule",
    "Surroundings",
    "Verdict",
    "WithoutEffect",
    "candidate",
    "place_of",
]

FILTERED = (
    *engines.FILTERED,
    *workload.FILTERED,
    *models.FILTERED,
    *pytorch.FILTERED,
    *vllm.FILTERED,
    *tensorrt.FILTERED,
    *memory.FILTERED,
)
"""Such a point never runs."""

WARNED = (*workload.WARNED, *models.WARNED, *pytorch.WARNED, *vllm.WARNED)
"""Such a point runs."""

WITHOUT_EFFECT = (
    *workload.WITHOUT_EFFECT,
    *pytorch.WITHOUT_EFFECT,
    *vllm.WITHOUT_EFFECT,
    *tensorrt.WITHOUT_EFFECT,
)
"""Such a point runs without those keys, and once for all that then are equal."""
