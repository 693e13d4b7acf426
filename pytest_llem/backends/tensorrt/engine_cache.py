"""Where built engines are kept, and what makes one engine another.

An engine fits the weights, the GPUs and the TensorRT-LLM that it was built for, so all of that is in its key. The
build cache of TensorRT-LLM itself does not see that weights have changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SHAPED_BY = "shaped-by.json"
"""Beside each engine: what its key was made of, for whoever wonders why there are two."""

BUILDING = ".building-"
"""How the folder of an engine begins that is not whole yet."""

DESCRIPTIONS = frozenset({".json", ".py", ".model", ".txt"})
"""Files of a model that are read whole for its fingerprint; of others, the weights, size and time must do."""

ABANDONED_S = 24 * 3600
"""A folder in which nothing has been built for so long is what a killed session left."""


class EngineCache:
    """A folder with one folder for each engine.

    Args:
        folder: where; None: beside the models that a hub has sent, which in a container outlives it.
    """

    def __init__(self, folder: str | None) -> None:
        hub = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface")
        self._folder = (Path(folder) if folder else hub / "tensorrt-engines").expanduser().absolute()

    def place(self, shape: Mapping[str, Any]) -> Path:
        """Return where the engine of this shape is, or would be."""
        text = json.dumps(shape, sort_keys=True)
        return self._folder / hashlib.sha256(text.encode()).hexdigest()[:32]

    def store(self, shape: Mapping[str, Any], build: Callable[[Path], None]) -> None:
        """Have an engine built into a folder that is given to `build`, and put it into its place once it is whole."""
        place = self.place(shape)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        with tempfile.TemporaryDirectory(prefix=BUILDING, dir=self._folder) as building:
            fresh = Path(building) / "engine"
            fresh.mkdir()
            build(fresh)
            (fresh / SHAPED_BY).write_text(json.dumps(shape, indent=2, sort_keys=True))
            if place.exists():
                place.rename(Path(building) / "old")
            fresh.rename(place)

    def _sweep(self) -> None:
        for path in self._folder.glob(f"{BUILDING}*"):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)

    def holds(self, shape: Mapping[str, Any]) -> bool:
        """Return whether the engine of this shape is there; it is only once it is whole."""
        return (self.place(shape) / SHAPED_BY).is_file()


def fingerprint(model: Path) -> str:
    """Return a hash that changes when a model in a folder does."""
    digest = hashlib.sha256()
    for path in sorted(model.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(model)}\0".encode())
            digest.update(_content(path))
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    if path.is_symlink():  # in a hub's cache, to a file that is named by its content
        return path.resolve().name.encode()
    if path.suffix in DESCRIPTIONS:
        return hashlib.sha256(path.read_bytes()).digest()
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}\0".encode()
