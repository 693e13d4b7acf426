"""Sessions whose models are on a hub: writing their campaigns, and reading what they leave."""

from __future__ import annotations

import re
import textwrap
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from runs import events, results_of


def write(root: Path, more: str = "", *, models: str = "[org/tiny]", tokens: int = 8) -> None:
    """Write a quick campaign over these models, in their order."""
    text = f"""
        campaign_name: hub
        defaults:
          max_input_tokens: {tokens}
          max_output_tokens: 2
          num_input_prompts: 2
          fp_precision: float32
          warmup: {{enabled: false}}
          pytorch: {{num_threads: 1}}
        execution:
          {{cycles: 1, structure: grouped, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}}
        window: {{seconds: 0, passes: 1}}
        grid:
          backends: [pytorch]
          models: {models}
    """
    (root / "c.yaml").write_text(textwrap.dedent(text) + textwrap.indent(textwrap.dedent(more), "  "))


def effective(root: Path, name: str) -> list[Any]:
    """Return what one parameter really was in each completed experiment, in order of time."""
    return [r["measurement"]["effective"][name] for r in results_of(root) if r["status"] == "completed"]


def by_axis(root: Path, axis: str) -> dict[Any, dict[str, Any]]:
    """Return the results by their value on an axis."""
    return {result["axes"][axis]: result for result in results_of(root)}


def begun(root: Path) -> list[datetime]:
    """Return when each experiment began."""
    return [datetime.fromisoformat(event["at"]) for event in events(root, "running")]


def assert_refused(root: Path, done: pytest.RunResult, *sentences: str) -> None:
    """Exit code 4 with exactly these sentences, and nothing was measured."""
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    shown = [line.removeprefix("ERROR: ") for line in done.errlines if line]
    assert len(shown) == len(sentences)
    for line, sentence in zip(shown, sentences, strict=True):
        assert re.fullmatch(sentence, line), line
    assert results_of(root) == []
    assert events(root, "running") == []
