"""transformers and vLLM in one campaign, each in an interpreter of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends_campaign import assert_compares, measure


def test_one_table_compares_two_engines(pytester: pytest.Pytester, vllm_python: Path) -> None:
    """`campaigns/backends.yaml` runs in child processes, and its table has both engines over both batch sizes."""
    done = measure(pytester, "--campaign-executor=local", **{"services.vllm.python": str(vllm_python)})
    assert_compares(pytester, done)
