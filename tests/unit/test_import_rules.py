"""The rooms and who may import whom (docs/architecture.md)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import pytest_llem

PACKAGE = Path(pytest_llem.__file__).parent

ROOMS: dict[str, frozenset[str]] = {
    # room: rooms of this package it may import, beside itself and the package's version
    "records": frozenset(),
    "architectures": frozenset(),
    "backends": frozenset({"records"}),
    "campaign": frozenset({"records", "backends", "architectures"}),
    "meters": frozenset({"records"}),
    "state": frozenset({"records", "campaign"}),
    "analysis": frozenset({"records", "campaign"}),
    "worker": frozenset({"records", "backends", "meters", "architectures"}),
    "executors": frozenset({"records", "backends", "campaign", "worker"}),
    "runner": frozenset({"records", "campaign", "state", "executors", "worker"}),
    "reporting": frozenset({"records", "campaign", "state", "analysis"}),
    "daemon": frozenset({"state", "reporting", "notify"}),
    "spending": frozenset({"records", "campaign", "state", "runner", "analysis", "reporting"}),
    "progress": frozenset({"records", "campaign", "state", "executors", "runner", "spending", "analysis"}),
    "notify": frozenset(),
    "command_line": frozenset({"settings"}),
    "long_waits": frozenset(),
    "run_choice": frozenset({"settings", "campaign", "state"}),
    "venue": frozenset({"settings", "backends", "campaign", "executors"}),
}
OF_PYTEST = frozenset(
    {"plugin", "campaign_plugin", "hookspec", "collection", "fixtures", "compose_fixtures", "rootdir"}
    | {"registration", "notify_plugin", "daemon_plugin", "last_failed"}
)
THIRD_PARTY: dict[str, frozenset[str]] = {
    "records": frozenset({"pydantic"}),
    "backends": frozenset({"pydantic", "pynvml", "tensorrt_llm", "torch", "transformers", "vllm"}),
    "campaign": frozenset({"pydantic", "yaml"}),
    "meters": frozenset({"pynvml", "psutil", "zeus"}),
    "state": frozenset({"pydantic", "filelock", "pyarrow"}),
    "analysis": frozenset({"pydantic", "numpy", "scipy"}),
    "worker": frozenset({"pydantic", "numpy", "psutil", "datasets", "huggingface_hub"}),
    "executors": frozenset({"pydantic", "psutil", "pynvml", "yaml", "python_on_whales"}),
    "runner": frozenset({"pydantic"}),
    "reporting": frozenset({"pydantic", "rich", "yaml"}),
    "series": frozenset({"pydantic"}),
}

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Return the dotted names that a module imports, those inside functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = {alias.name for alias in node.names} if node.module == "pytest_llem" else set()
            found |= {f"pytest_llem.{name}" for name in names} or {node.module}
    return found - {"pytest_llem.__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_the_rooms_below_it(path: Path) -> None:
    """No module reaches into a room that its own room may not know."""
    room = room_of(path)
    allowed = ROOMS.get(room)
    if allowed is None:
        assert room in OF_PYTEST | {
            "session",
            "station",
            "settings",
            "display",
            "__init__",
            "series",
            "__main__",
        }
        return
    rooms = {name.split(".")[1] for name in imports_of(path) if name.startswith("pytest_llem.")}
    assert rooms <= allowed | {room}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pytest_is_imported_by_its_own_modules_alone(path: Path) -> None:
    """Only the modules that speak to pytest import it."""
    tops = {name.partition(".")[0] for name in imports_of(path)}
    assert room_of(path) in OF_PYTEST or not tops & {"pytest", "_pytest"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_its_own_libraries(path: Path) -> None:
    """Each room's third-party libraries are named, so that a new one is a decision."""
    room = room_of(path)
    tops = {name.partition(".")[0] for name in imports_of(path)}
    foreign = tops - set(sys.stdlib_module_names) - {"pytest_llem", "pytest", "_pytest"}
    assert foreign <= THIRD_PARTY.get(room, frozenset())


def test_the_client_is_one_self_contained_file() -> None:
    """The worker's client runs where nothing is installed: it imports the standard library alone."""
    imported = imports_of(PACKAGE / "worker" / "client.py")
    assert {name.partition(".")[0] for name in imported} <= set(sys.stdlib_module_names)
