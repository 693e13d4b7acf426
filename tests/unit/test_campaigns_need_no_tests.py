"""A campaign of this repository runs where the libraries of its tests are not installed."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_EVERYONE = {"pytest", "pytest_llem"}


@pytest.mark.parametrize("path", ["conftest.py", "tests/conftest.py"])
def test_what_pytest_loads_for_a_campaign_needs_no_extra(path: str) -> None:
    """The conftest files that pytest reads before any campaign of this repository import what the core brings."""
    tree = ast.parse((ROOT / path).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    tops = {module.partition(".")[0] for module in modules}
    assert tops <= OF_EVERYONE | set(sys.stdlib_module_names)
