from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

HEAVY = {"pydantic", "yaml", "numpy", "scipy", "torch", "python_on_whales", "rich", "psutil", "filelock"}

ALONE = [
    word
    for plugin in entry_points(group="pytest11")
    if plugin.name != "llem"
    for word in ("-p", f"no:{plugin.name}")
]
"""Without the other plugins that are installed here: some of them import numpy themselves."""


def modules_after(pytester: pytest.Pytester, *arguments: str) -> set[str]:
    """Run a session in a process of its own and return all modules that it has imported."""
    script = pytester.makepyfile(
        run=f"""
        import json, sys, pytest
        status = pytest.main({[*ALONE, *arguments]})
        print()
        print(json.dumps(sorted(sys.modules)))
        sys.exit(status)
        """
    )
    done = pytester.runpython(script)
    assert done.ret == pytest.ExitCode.OK
    return set(json.loads(done.outlines[-1]))


def test_a_session_without_a_campaign_imports_the_hooks_alone(pytester: pytest.Pytester) -> None:
    """Who has the plugin installed and runs no campaign pays for its hooks and for no library."""
    pytester.makepyfile(test_one="def test_one(): pass")
    modules = modules_after(pytester)
    ours = {name for name in modules if name.startswith("pytest_llem.")}
    assert ours == {"pytest_llem.plugin", "pytest_llem.fixtures", "pytest_llem.hookspec"}
    assert not modules & HEAVY


def test_collecting_alone_imports_no_numerics(
    pytester: pytest.Pytester, campaign: Callable[..., Path]
) -> None:
    """`--collect-only` validates a campaign without numpy, scipy, rich and the engine."""
    campaign()
    modules = modules_after(pytester, "--campaign=grid.yaml", "--collect-only")
    assert "pytest_llem.campaign_plugin" in modules
    assert not modules & {"numpy", "scipy", "rich", "torch", "psutil", "abacus.engine"}
