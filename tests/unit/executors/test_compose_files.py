"""Which Compose files a session takes, which services they declare, and what a session mounts in them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_llem.backends.registry import registered
from pytest_llem.campaign.schema import Service
from pytest_llem.executors.compose.files import PACKAGED, Override, find, mounted, services, undeclared

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


# --- What is mounted ---


def snapshot(cache: Path, commit: str) -> Path:
    """Return the folder of a model as the hub's cache keeps it: links to the files that snapshots share."""
    model = cache / "models--org--tiny"
    folder = model / "snapshots" / commit
    for name in ("config.json", "shards/1.safetensors"):
        blob, file = model / "blobs" / f"{commit}-{Path(name).name}", folder / name
        for path in (blob, file):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(f"{name} of {commit}")
        file.symlink_to(os.path.relpath(blob, file.parent))
    return folder


def binds(inputs: Sequence[Path]) -> dict[str, str]:
    """Return what is mounted for these inputs: the host's folder by the container's."""
    volumes = Override({}, inputs).service(registered()["pytorch"], Service(), None)["volumes"]
    found = {volume["target"]: volume["source"] for volume in volumes}
    assert len(found) == len(volumes)
    return found


def read(inside: str, within: dict[str, str]) -> str:
    """Return the text of a file as a container with these mounts reads it, which follows links there."""
    top = next(target for target in within if Path(inside).is_relative_to(target))
    host = Path(within[top], Path(inside).relative_to(top))
    if host.is_symlink():
        return read(os.path.normpath(Path(inside).parent / host.readlink()), within)
    return host.read_text()


def test_links_of_the_hubs_cache_lead_to_the_files_in_a_container_too(tmp_path: Path) -> None:
    """A snapshot is mounted with the blobs that it links to, and two of one model in one mount."""
    folders = [snapshot(tmp_path, commit) for commit in ("abc", "def")]
    mounts = binds(folders)
    assert list(mounts.values()) == [str(tmp_path / "models--org--tiny")]
    for folder in folders:
        for name in ("config.json", "shards/1.safetensors"):
            assert read(f"{mounted(folder)}/{name}", mounts) == f"{name} of {folder.name}"


@pytest.mark.parametrize("target", ["config.json", "../../../far/away", "/etc/passwd", "itself"])
def test_other_links_mount_nothing_more(tmp_path: Path, target: str) -> None:
    """Only the folder is mounted if its links stay in it, lead nowhere, or farther than the hub's cache needs."""
    folder = tmp_path / "a" / "b" / "model"
    folder.mkdir(parents=True)
    (tmp_path / "far").mkdir()
    (folder / "itself").symlink_to(target)
    assert binds([folder]) == {mounted(folder): str(folder)}


def test_the_whole_disk_is_never_mounted() -> None:
    """From a folder near the root a link leads to nothing outside of the folders above."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name).resolve()
        (folder / "passwd").symlink_to("../../etc/passwd")
        assert binds([folder]) == {mounted(folder): str(folder)}
