"""Which results are one measurement, which configurations share a launch, what an experiment is called.

Resume finds a finished experiment by `spec_hash` and cycle, never by its id: renaming reruns nothing.
Hashes are SHA-256 over text in which the order of keys is fixed, cut to what a campaign needs: with 16 hex
digits the chance that any two of 100,000 configurations collide is below 1e-9.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Container, Mapping
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from pytest_llem.architectures import Architecture, UnknownArchitectureError, architecture
from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.hub_cache import snapshot
from pytest_llem.campaign.parts import DEFAULTS, PARAMETERS, Parts
from pytest_llem.campaign.schema import Execution, Window
from pytest_llem.records import RANDOM_WEIGHTS, Configuration, Dataset

POINT_ID_BYTES = 108
"""Longest id of a point. With `-c` and a cycle of ten digits it stays within the 120 bytes of a node id."""

_NAMING = ("prompts_file", "dataset", "model_name")
"""Fields that name something whose content is hashed."""

_HASHED = [
    name for name in Configuration.model_fields if name not in ("config_name", "prompts_file", PARAMETERS)
]
"""The first two only name something: what they name is hashed, or a twin by its name."""

_TEXT = "{{" + ",".join(f'"{name}":{{}}' for name in _HASHED) + "}}"
_hashed = itemgetter(*_HASHED)


class _File(NamedTuple):
    """What a hash and a rule need of a file: None and {} for one that cannot be read."""

    digest: str | None
    mapping: dict[str, Any]


class Model(NamedTuple):
    """What is known of a model.

    Attributes:
        config: its `config.json`; {} where that is not to be had.
        architecture: what that describes; None where it is not known here.
    """

    config: Mapping[str, Any]
    architecture: Architecture | None


class Files:
    """The files that configurations name, each read once for a campaign.

    Args:
        folder: where relative paths start.
        hub: the cache of a hub's client (`hub_cache`); None: models on a hub are not looked for.
    """

    def __init__(self, folder: Path, hub: Path | None = None) -> None:
        self._folder = folder
        self._hub = hub
        self._files: dict[str, _File] = {}
        self._contents: dict[str, str | None] = {}
        self._models: dict[tuple[str, str | None], Model] = {}

    def digest(self, path: str) -> str | None:
        """Return the SHA-256 of the file in hex, or None when it cannot be read."""
        return self._file(path).digest

    def content(self, path: str) -> str | None:
        """Return the digest of a file or, by names and sizes, of a folder; None when there is neither."""
        if path not in self._contents:
            listing = _listing(self._folder / path) if path else None
            self._contents[path] = listing or self.digest(path)
        return self._contents[path]

    def mapping(self, path: str) -> dict[str, Any]:
        """Return the top level of a JSON file, or {} when it has none that can be read."""
        return self._file(path).mapping

    def model(self, name: str, revision: str | None = None) -> Model:
        """Return what is known of a model: by its folder, else by what a hub's client has fetched before.

        That is for rules alone. To a hash it would be news of the machine, not of the model.
        """
        if (name, revision) not in self._models:
            config = self.mapping(self._described(name, revision))
            try:
                found = architecture(config)
            except UnknownArchitectureError:
                found = None
            self._models[name, revision] = Model(config, found)
        return self._models[name, revision]

    def _described(self, name: str, revision: str | None) -> str:
        bare = name.removeprefix(RANDOM_WEIGHTS)
        fetched = None
        if self._hub is not None and not _is_folder(self._folder, bare):
            fetched = snapshot(self._hub, bare, revision)
        return model_config(str(fetched) if fetched else bare)

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


def _is_folder(folder: Path, path: str) -> bool:
    try:
        return (folder / Path(path).expanduser()).is_dir()
    except (OSError, ValueError, RuntimeError):  # as in `_read`
        return False


def _listing(folder: Path) -> str | None:
    """Return a digest of the names and sizes of a folder's files: their content may be gigabytes."""
    try:
        if not folder.is_dir():
            return None
    except OSError:  # a name too long for a path, say that of a model on a hub
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return _digest(*(f"{path.relative_to(folder)} {path.stat().st_size}" for path in files))


def model_config(model_name: str) -> str:
    """Return the path at which a model in a local folder has its `config.json`."""
    return f"{model_name.removeprefix(RANDOM_WEIGHTS)}/config.json"


class SpecHashes:
    """The identities of the points of one campaign: 16 hex digits for all that can change the measured numbers.

    These are the configuration, the content of its prompts file, of a dataset that lies here, and of the
    `config.json` of a model in a local folder, the floor and cap of the warm-up, the window, and the
    executor. Not in it: names, gaps, timeouts and the number of cycles. `twin_hash` tells apart equal
    configurations that are kept on purpose.
    """

    def __init__(self, *, window: Window, execution: Execution, executor: str, files: Files) -> None:
        self._files = files
        self._shared = (
            (execution.warmup_prompts, execution.warmup_timeout_seconds),
            (window.seconds, window.passes),
            executor,
        )
        self._contents = lru_cache(maxsize=4096)(self._content)

    def of(self, parts: Parts, texts: Mapping[str, str]) -> str:
        """Return the hash of a configuration, given as the parts that it sets and as the texts of all."""
        contents = self._contents(*(parts.get(name, DEFAULTS[name]).value for name in _NAMING))
        return _digest(_TEXT.format(*_hashed(texts)), texts[PARAMETERS], contents)[:16]

    def _content(self, prompts_file: str | None, dataset: Dataset | None, model_name: str) -> str:
        surroundings = (
            prompts_file and self._files.digest(prompts_file),
            dataset and self._files.content(dataset.name),
            self._files.digest(model_config(model_name)),
            *self._shared,
        )
        return repr(surroundings)


def twin_hash(equal: str, config_name: str) -> str:
    """Return the hash of a configuration with the hash `equal` and a `config_name` of its own.

    That is how a campaign writes an A/A comparison. The first of the equals keeps the plain hash, so adding
    a twin reruns nothing.
    """
    return _digest(equal, config_name)[:16]


def engine_key(texts: Mapping[str, str], spec: BackendSpec) -> str:
    """Return 12 hex digits that stand for what the engine loads.

    Two configurations with one key can be served by one launch.
    """
    return _engine_key(spec.name, spec.parameters.per_call, *_loaded(texts))


_loaded = itemgetter("parameters", "model_name", "gpus", "fp_precision")


@lru_cache(maxsize=4096)
def _engine_key(backend: str, per_call: frozenset[str], parameters: str, *fields: str) -> str:
    loaded = {name: value for name, value in json.loads(parameters).items() if name not in per_call}
    return _digest(backend, *fields, json.dumps(loaded, sort_keys=True))[:12]


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
