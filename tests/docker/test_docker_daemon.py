"""A daemon whose rounds run in containers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from containers import containers_of
from daemons import daemon, outcomes, the_round
from runs import events, results_of
from sessions import wait_until

Campaign = Callable[..., Path]

SLOW = """
    backends: [abacus]
    shared:
      batch_size: [1, 2]
    backend_overrides:
      abacus: {token_ms: 20}
"""
"""Two configurations; an experiment takes a second or two."""


def test_a_killed_round_leaves_no_container_to_the_next_one(
    pytester: pytest.Pytester, docker_campaign: Campaign
) -> None:
    """After SIGKILL in the middle of the first round the second one passes, and no container is left at the end."""
    docker_campaign("daemon: {enabled: true, interval: 60s, total_duration: 119s}\n", grid=SLOW)
    with daemon(pytester.path, "--campaign-executor=compose") as process:
        wait_until(lambda: events(pytester.path, "running"), "the first experiment runs")
        assert containers_of(pytester.path) != []
        the_round(process).kill()
        output, _ = process.communicate(timeout=300)
    assert outcomes(pytester.path) == ["crashed", "passed"], output
    assert process.returncode == 1
    assert len([result for result in results_of(pytester.path) if result["round"] == 2]) == 4
    assert {result["executor"] for result in results_of(pytester.path)} == {"compose"}
    assert containers_of(pytester.path) == []
