"""Items of plain pytest that share their fixture information, as cheap as pytest itself can make them."""

from __future__ import annotations

from pathlib import Path

CONFTEST = """\
import types
import pytest

def a_test(): pass

class Plain(pytest.Module):
    def _getobj(self):
        return types.ModuleType("floor")
    def collect(self):
        shared = None
        for i in range(int(self.path.read_text())):
            item = pytest.Function.from_parent(self, name=f"i{i}", callobj=a_test, fixtureinfo=shared)
            shared = item._fixtureinfo
            yield item

def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".floor":
        return Plain.from_parent(parent, path=file_path)
"""

ARGUMENTS = ("-p", "no:llem", "items.floor")
"""Collect the items, and have no plugin of ours."""


def write(folder: str, items: int) -> None:
    """Make `folder` a project of so many plain items."""
    Path(folder, "pytest.ini").write_text("[pytest]\n")
    Path(folder, "conftest.py").write_text(CONFTEST)
    Path(folder, "items.floor").write_text(str(items))
