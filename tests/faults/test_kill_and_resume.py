"""SIGKILL at any moment: 60 seeded moments, then `--lf`, and every account agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kills import BETWEEN, CHAINS, GRID, survive_kills

Campaign = Callable[..., Path]


def test_every_account_agrees_after_kills_at_sixty_moments(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """Wherever a session is killed, --lf ends with every experiment completed exactly once, nothing left alive."""
    campaign(grid=GRID)
    pytester.makeconftest(BETWEEN)
    assert len(list(survive_kills(pytester.path))) == CHAINS
