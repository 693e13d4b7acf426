"""Which results are one measurement, which configurations share a launch, what an experiment is called.

Resume finds a finished experiment by `spec_hash` and cycle, never by its id: renaming reruns nothing.
Hashes are SHA-256 over text in which the order of keys is fixed, cut to what a campaign needs: with 16 hex
digits the chance that any two of 100,000 configurations collide is below 1e-9.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Container
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.schema import Execution, Window
from pytest_llem.records import RANDOM_WEIGHTS, Configuration

POINT_ID_BYTES = 108
"""Longest id of a point. With `-c` and a cycle of ten digits it stays within the 120 bytes of a node id."""

_HASHED_APART = {"config_name", "prompts_file", "parameters"}
"""The first two only name something: what they name is hashed, or a twin by its name."""


_ANY: TypeAdapter[Any] = TypeAdapter(Any)


class _File(NamedTuple):
    """What a hash and a rule need of a file: None and {} for one that cannot be read."""

    digest: str | None
    mapping: dict[str, Any]


class Files:
    """The files that configurations name, each read once for a campaign. Relative paths start at `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._contents: dict[str, str | None] = {}

    def digest(self, path: str) -> str | None:
        """Return the SHA-256 of the file in hex, or None when it cannot be read."""
        return self._file(path).digest

    def content(self, path: str) -> str | None:
        """Return the digest of a file or, by names and sizes, of a folder; None when there is neither."""
        if path not in self._contents:
            folder = self._folder / path
            listing = _listing(folder) if path and folder.is_dir() else None
            self._contents[path] = listing or self.digest(path)
        return self._contents[path]

    def mapping(self, path: str) -> dict[str, Any]:
        """Return the top level of a JSON file, or {} when it has none that can be read."""
        return self._file(path).mapping

    def _file(self, path: str) -> _File:
        if path not in self._files:
            self._files[path] = _read(self._folder, path)
        return self._files[path]


def _read(folder: Path, path: str) -> _File:
    try:
        content = (folder / Path(path).expanduser()).read_bytes()
    except (OSError, ValueError, RuntimeError):  # not there, no path at all, no such user
        return _File(None, {})
    try:
        parsed = json.loads(content) if path.endswith(".json") else None
    except ValueError:
        parsed = None
    return _File(sha256(content).hexdigest(), parsed if isinstance(parsed, dict) else {})


def _listing(folder: Path) -> str:
    """Return a digest of the names and sizes of a folder's files: their content may be gigabytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return _digest(*(f"{path.relative_to(folder)} {path.stat().st_size}" for path in files))


def model_config(model_name: str) -> str:
    """Return the path at which a model in a local folder has its `config.json`."""
    return f"{model_name.removeprefix(RANDOM_WEIGHTS)}/config.json"


def spec_hash(
    configuration: Configuration, *, window: Window, execution: Execution, executor: str, files: Files
) -> str:
    """Return 16 hex digits that stand for all that can change the measured numbers.

    These are the configuration, the content of its prompts file, of a dataset that lies here, and of the
    `config.json` of a model in a local folder, the floor and cap of the warm-up, the window, and the
    executor. Not in it: names, gaps, timeouts and the number of cycles. `twin_hash` tells apart equal
    configurations that are kept on purpose.
    """
    prompts, dataset = configuration.prompts_file, configuration.dataset
    surroundings = (
        prompts and files.digest(prompts),
        dataset and files.content(dataset.name),
        files.digest(model_config(configuration.model_name)),
        (execution.warmup_prompts, execution.warmup_timeout_seconds),
        (window.seconds, window.passes),
        executor,
    )
    fields = configuration.model_dump_json(exclude=_HASHED_APART)
    return _digest(fields, _canonical(configuration.parameters), repr(surroundings))[:16]


def twin_hash(equal: str, config_name: str) -> str:
    """Return the hash of a configuration with the hash `equal` and a `config_name` of its own.

    That is how a campaign writes an A/A comparison. The first of the equals keeps the plain hash, so adding
    a twin reruns nothing.
    """
    return _digest(equal, config_name)[:16]


def engine_key(configuration: Configuration, spec: BackendSpec) -> str:
    """Return 12 hex digits that stand for what the engine loads.

    Two configurations with one key can be served by one launch.
    """
    per_call = spec.parameters.per_call
    loaded = {name: value for name, value in configuration.parameters.items() if name not in per_call}
    fields = (
        configuration.backend,
        configuration.model_name,
        configuration.gpus,
        configuration.fp_precision,
    )
    return _digest(repr(fields), _canonical(loaded))[:12]


def _canonical(parameters: dict[str, Any]) -> str:
    return _sorted_json(_ANY.dump_json(parameters))


@lru_cache(maxsize=4096)
def _sorted_json(text: bytes) -> str:
    """Return JSON with all keys sorted; cached, because a grid has few sections for its many points."""
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def _digest(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()


@lru_cache(maxsize=4096)
def slug(text: str) -> str:
    """Return `text` in the characters that a node id may have: ASCII letters, digits and `._-`.

    All of them may stand in an expression for pytest's `-k`. Accents fall off, anything else becomes one `-`.
    A text of which nothing is left gives 8 hex digits of its hash.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._]+", "-", ascii_text).strip("-.") or sha256(text.encode()).hexdigest()[:8]


def limited(point_id: str, taken: Container[str]) -> str:
    """Return `point_id`, numbered when it is `taken`; a long one is cut, with 8 hex digits of its hash."""
    if len(point_id) > POINT_ID_BYTES:
        digits = sha256(point_id.encode()).hexdigest()[:8]
        point_id = f"{point_id[: POINT_ID_BYTES - 9]}-{digits}"
    number, free = 1, point_id
    while free in taken:
        number += 1
        free = f"{point_id[: POINT_ID_BYTES - 8]}-{number}"
    return free
