"""Built engines: what makes one another, and that none is found before it is whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pytest_llem.backends.tensorrt.engine_cache import ABANDONED_S, EngineCache, fingerprint
from trtllm import write_model

SHAPE = {"model": "some/model", "max_batch_size": 8, "gpus": ["H200"]}


def write(folder: Path) -> None:
    (folder / "rank0.engine").write_text("engine")


def test_an_engine_is_found_again_by_what_shaped_it(tmp_path: Path) -> None:
    """The order of the facts does not matter, and each other value is another engine."""
    cache = EngineCache(str(tmp_path))
    cache.store(SHAPE, write)
    assert cache.holds(dict(reversed(SHAPE.items())))
    assert (cache.place(SHAPE) / "rank0.engine").read_text() == "engine"
    for name in SHAPE:
        assert not cache.holds(SHAPE | {name: "other"})


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """An engine that is not whole is never found, and takes no room."""

    def fail(folder: Path) -> None:
        write(folder)
        raise RuntimeError("no more memory")

    cache = EngineCache(str(tmp_path))
    with pytest.raises(RuntimeError, match="no more memory"):
        cache.store(SHAPE, fail)
    assert not cache.holds(SHAPE)
    assert list(tmp_path.iterdir()) == []


def test_a_rebuilt_engine_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    """Until the new engine is whole the old one is there; afterwards it is the only one."""
    cache = EngineCache(str(tmp_path))
    cache.store(SHAPE, write)

    def rebuild(folder: Path) -> None:
        assert cache.holds(SHAPE)
        (folder / "rank0.engine").write_text("newer")

    cache.store(SHAPE, rebuild)
    assert (cache.place(SHAPE) / "rank0.engine").read_text() == "newer"
    assert list(tmp_path.iterdir()) == [cache.place(SHAPE)]


def test_what_a_killed_session_left_is_swept(tmp_path: Path) -> None:
    """A half-built engine of the day before goes with the next build; one of a minute ago may still be built."""
    old, young = tmp_path / ".building-old", tmp_path / ".building-young"
    for folder, age_s in ((old, ABANDONED_S + 60), (young, 60)):
        folder.mkdir()
        os.utime(folder, (time.time() - age_s,) * 2)
    EngineCache(str(tmp_path)).store(SHAPE, write)
    assert (old.exists(), young.exists()) == (False, True)


def test_engines_lie_beside_the_models_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the hub's folder is kept, as in a container's volume, engines are kept too."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert EngineCache(None).place(SHAPE).is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_another_model_has_another_fingerprint(tmp_path: Path, name: str) -> None:
    """Weights or a description that change under the same name make another engine; a copy does not."""
    model = write_model(tmp_path / "model")
    before = fingerprint(model)
    assert fingerprint(model) == before
    (model / name).write_text("{}")
    assert fingerprint(model) != before


def test_a_revision_of_the_hub_is_known_by_its_files(tmp_path: Path) -> None:
    """A hub's cache links to files that are named by their content, so a snapshot elsewhere is the same model."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    prints = []
    for number, blob in enumerate(("aaa", "bbb", "aaa")):
        (blobs / blob).write_text("weights")
        snapshot = tmp_path / str(number)
        snapshot.mkdir()
        (snapshot / "model.safetensors").symlink_to(blobs / blob)
        prints.append(fingerprint(snapshot))
    assert prints[0] == prints[2] != prints[1]
