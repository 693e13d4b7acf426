"""transformers and vLLM in one campaign, each in the container of its own service."""

from __future__ import annotations

import pytest

from backends_campaign import assert_compares, measure
from containers import containers_of


def test_one_table_compares_two_services(
    pytester: pytest.Pytester, pytorch_image: str, vllm_image: str
) -> None:
    """`campaigns/backends.yaml` runs in the shipped images, and its table has both engines over both batch sizes."""
    done = measure(pytester, "--campaign-executor=compose")
    assert_compares(pytester, done)
    assert containers_of(pytester.path) == []
