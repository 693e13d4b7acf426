"""What all tests share: the skip list, and campaigns in folders of their own."""

from __future__ import annotations

import os
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TOY = TESTS / "toy"


class SkipJudge:
    """In CI, a skip that is not in `skips.toml` with its reason fails the run."""

    def __init__(self) -> None:
        self._allowed = {
            entry["test"]: entry["reason"]
            for entry in tomllib.loads((TESTS / "skips.toml").read_text()).get("skip", [])
        }
        self._refused: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and not self._is_allowed(report.nodeid):
            self._refused.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for nodeid in self._refused:
            terminalreporter.write_line(f"skipped, and not in tests/skips.toml: {nodeid}", red=True)

    def _is_allowed(self, nodeid: str) -> bool:
        return any(nodeid.startswith(prefix) for prefix in self._allowed)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "key(name): the test shows what two values of this campaign key do")
    if os.environ.get("CI"):
        config.pluginmanager.register(SkipJudge())


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep campaigns of tests from waiting for this machine's slots, and from choosing its Docker engine."""
    monkeypatch.setenv("LLEM_SLOTS_DIR", str(tmp_path_factory.mktemp("slots")))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the abacus backend importable, here and in child processes."""
    search = os.pathsep.join(filter(None, [str(TOY), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", search)
    return TOY


@pytest.fixture
def fruitless(tmp_path: Path) -> Path:
    """Return an interpreter that seems to have everything, and whose worker ends at once."""
    path = tmp_path / "fruitless"
    path.write_text('#!/bin/sh\n[ "$1" = -c ]\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def campaign(pytester: pytest.Pytester, toy: Path) -> Callable[..., Path]:
    """Return a function that writes a quick abacus campaign; further YAML text is appended to it.

    `grid` replaces the grid's lines, `execution` adds to its section.
    """
    (pytester.path / "pytest.ini").write_text("[pytest]\n")

    def write(more: str = "", *, name: str = "grid.yaml", grid: str = "", execution: str = "") -> Path:
        grid = textwrap.dedent(grid) or "backends: [abacus]\nshared:\n  batch_size: [1, 2]\n"
        settings = "cycles: 2\nconfig_gap_seconds: 0\ncycle_gap_seconds: 0\nconditioning: false\n"
        settings += textwrap.dedent(execution)
        text = (
            "campaign_name: toy\nmodel: beads\n"
            "defaults:\n"
            "  {max_input_tokens: 4, max_output_tokens: 4, num_input_prompts: 20, warmup: {enabled: false},\n"
            "   baseline: {enabled: false}}\n"
            "window: {seconds: 0, passes: 1}\n"
            f"grid:\n{textwrap.indent(grid.strip(), '  ')}\n"
            f"execution:\n{textwrap.indent(settings.strip(), '  ')}\n"
        )
        path = pytester.path / name
        path.write_text(text + textwrap.dedent(more))
        return path

    return write
