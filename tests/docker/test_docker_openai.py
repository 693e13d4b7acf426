"""The `openai` backend is a client: what a session in containers says of it."""

from __future__ import annotations

import pytest

CAMPAIGN = """
campaign_name: server
model: beads
grid: {backends: [openai]}
"""


def test_a_client_needs_no_container(engine: None, pytester: pytest.Pytester) -> None:
    """Asked to run it in a container, a session says in one line that it runs without, and how; nothing starts."""
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "server.yaml").write_text(CAMPAIGN)
    done = pytester.runpytest_subprocess("--campaign=server.yaml", "--campaign-executor=compose")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert len([line for line in done.errlines if line]) == 1
    said = "the openai backend is a client and needs no container: add --campaign-executor local"
    done.stderr.fnmatch_lines([f"ERROR: * has no service openai: {said}"])
