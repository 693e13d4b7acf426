"""FLOPs per token of a campaign's model, from its folder to the summary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runs import summary


def test_the_flops_of_a_model_are_the_same_in_every_cycle(
    pytester: pytest.Pytester, campaign: Callable[..., Path]
) -> None:
    """A model with a `config.json` has FLOPs per token, whose interval over the cycles has no width."""
    (pytester.path / "beads").mkdir()
    (pytester.path / "beads/config.json").write_text(
        '{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,'
        ' "num_attention_heads": 4, "vocab_size": 100}'
    )
    campaign(grid="backends: [abacus]")
    cycles = "--campaign-set=execution.cycles=3"
    pytester.runpytest_subprocess("--campaign=grid.yaml", cycles).assert_outcomes(passed=3)
    flops = summary(pytester.path)["rows"][0]["metrics"]["flops_per_token"]
    assert flops["source"] == "architecture"
    assert flops["interval"]["low"] == flops["center"] == flops["interval"]["high"] > 0
