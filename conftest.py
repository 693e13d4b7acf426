"""What this repository sets for its own campaigns: a worked example of the fixtures and hooks (docs/docker.md).

Fixtures say which containers a campaign runs in; hooks are told of its results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_llem.analysis.summary import Summary


@pytest.fixture(scope="session")
def llem_compose_environment(llem_compose_environment: Mapping[str, str]) -> Mapping[str, str]:
    """Give the containers of our small models less shared memory than the Compose file does."""
    return {"LLEM_SHM_SIZE": "1gb", **llem_compose_environment}


def pytest_llem_summary(config: pytest.Config, summary: Summary) -> None:
    """Name the configuration that needed the least energy."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    measured = {
        row.label: energy.center
        for row in summary.rows
        if (energy := row.metrics.get("energy_per_output_token_j")) is not None and energy.center is not None
    }
    if reporter is not None and len(measured) > 1:
        reporter.write_line(f"least energy per token: {min(measured, key=measured.__getitem__)}")
