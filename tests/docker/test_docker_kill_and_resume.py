"""SIGKILL at any moment of a session in containers: 60 seeded moments, then `--lf`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from containers import containers_of
from kills import BETWEEN, CHAINS, GRID, survive_kills

Campaign = Callable[..., Path]


def test_no_container_is_left_after_kills_at_sixty_moments(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """Wherever a session is killed, --lf ends with every experiment completed exactly once, no container left."""
    docker_campaign(grid=GRID)
    pytester.makeconftest(BETWEEN)
    survived = 0
    for root in survive_kills(pytester.path, "--campaign-executor=compose"):
        assert containers_of(root) == []
        survived += 1
    assert survived == CHAINS
