"""Which Compose files a session takes, and which services they declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.executors.compose.files import PACKAGED, find, services, undeclared

TAGGED = """
services:
  abacus:
    ports: !reset []
    deploy: !override {}
"""


def write(folder: Path, text: str, name: str = "docker-compose.yml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_with_tags_of_compose_is_read(tmp_path: Path) -> None:
    """`!reset` and `!override`, which YAML does not know, hide no service."""
    path = write(tmp_path, TAGGED)
    assert services(path) == {"abacus"}
    assert find(tmp_path, ["abacus", "pytorch"]) == [path]


@pytest.mark.parametrize("text", ["services: [", "services: {abacus: {image: 'half}}"])
def test_a_file_that_cannot_be_read_is_taken(tmp_path: Path, text: str) -> None:
    """Whether it has the services nobody can tell; Compose will say what is wrong with it."""
    path = write(tmp_path, text)
    assert services(path) is None
    assert find(tmp_path, ["abacus"]) == [path]
    assert undeclared([path], ["abacus"]) == []


@pytest.mark.parametrize("text", ["services: {db: {image: postgres}}", "services: [abacus]", "name: x", ""])
def test_a_file_for_something_else_is_not_taken(tmp_path: Path, text: str) -> None:
    """A project's file without a service for a backend leaves the packaged one."""
    path = write(tmp_path, text)
    assert find(tmp_path, ["abacus"]) == [PACKAGED]
    assert undeclared([path], ["abacus"]) == ["abacus"]


def test_an_override_file_is_taken_along(tmp_path: Path) -> None:
    """Compose's own names are looked for in its own order, and a service may be declared in either file."""
    main = write(tmp_path, TAGGED, "compose.yaml")
    write(tmp_path, TAGGED)
    override = write(tmp_path, "services: {counter: {image: x}}", "compose.override.yaml")
    assert find(tmp_path, ["abacus"]) == [main, override]
    assert undeclared([main, override], ["abacus", "counter", "pytorch"]) == ["pytorch"]
