"""Hooks that a project's conftest.py may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_llem.analysis.summary import Summary
    from pytest_llem.records import Result


@pytest.hookspec
def pytest_llem_result(config: pytest.Config, result: Result) -> None:
    """Called for each result, completed or failed, once it is on disk.

    Under `-n` it is called in the process that measured. For example, to send each result elsewhere::

        def pytest_llem_result(config, result):
            requests.post(URL, data=result.model_dump_json())
    """


@pytest.hookspec
def pytest_llem_summary(config: pytest.Config, summary: Summary) -> None:
    """Called once at the end of the session, when summary.json and summary.csv are written.

    For example, to print a line of one's own::

        def pytest_llem_summary(config, summary):
            for row in summary.rows:
                rate = row.metrics.get("output_tokens_per_second")
                if rate is not None and rate.center is not None:
                    print(f"{row.label}: {rate.center:.0f} token/s over {row.n} cycles")

    An exception in it does not cost the table; it is named below that, and the session fails.
    """
