"""Models and datasets from a hub: can they be had, how large are they, and fetch them, before anything is timed.

The hub's client runs in a child process beside the engine's libraries; the server itself imports none of it.
What is whole in the cache is used as it is, without a word to the hub: a run does not change its model because
a branch has moved, and needs no network.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import socket
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pytest_llem.backends.base import EngineError
from pytest_llem.worker.engine_process import die_with
from pytest_llem.worker.forking import Choice
from pytest_llem.worker.protocol import Done, Preparation, PrepareDataset, PrepareModel
from pytest_llem.worker.workload import dataset_prompts, load_arguments

ARCHITECTURE_FILES = ("config.json", "*.py")
TEXT_FILES = ("*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt")
"""The tokenizer's, and beside weights what says how they are to be loaded and used."""

WEIGHT_FORMATS = ("model*.safetensors", "*.safetensors", "pytorch_model*.bin", "*.bin", "*.pt")
"""The first that a model has is loaded. Many hold the same weights twice, under another name or format."""

WEIGHTS_IN_SUBFOLDERS = ("*/*.safetensors", "*/*.bin", "*/*.pt")
"""Never wanted: the authors' original checkpoints, exports to other runtimes."""

Tell = Callable[[str], None]


class PreparationError(Exception):
    """The model or dataset cannot be had; the message says why in one sentence."""


def prepare(request: Preparation, start: Choice, client: socket.socket, tell: Tell) -> Done:
    """Carry out a preparation in a child process and return its facts.

    Of a model that is in the cache, now or since long: `path` and `revision`. Of a dataset that has been fetched:
    `texts`. Of what would have to be fetched: `size_bytes`, `free_bytes` and `cache`.

    The child ends when the client closes the connection, and with this process.
    """
    receiver, sender = start.context.Pipe(duplex=False)
    lifeline_end, lifeline = start.context.Pipe(duplex=False)
    child: BaseProcess = start.context.Process(  # type: ignore[attr-defined]
        target=_child, args=(request, sender, lifeline_end), name="llem-prepare"
    )
    tell("fetching" if request.fetch else "checking")
    child.start()
    sender.close()
    lifeline_end.close()
    ready = wait([receiver, child.sentinel, client])
    try:
        if receiver in ready or receiver.poll():
            answer: Done = receiver.recv()
            return answer
        return Done(problem=f"the check of {request.name} ended without an answer")
    except EOFError:
        return Done(problem=f"the check of {request.name} ended without an answer")
    finally:
        child.kill()
        child.join()
        lifeline.close()


def _child(request: Preparation, answer: Connection, lifeline: Connection) -> None:
    die_with(lifeline)
    try:
        facts = _model(request) if isinstance(request, PrepareModel) else _dataset(request)
        answer.send(Done(facts=facts))
    except (PreparationError, EngineError) as error:
        answer.send(Done(problem=str(error)))
    except Exception as error:  # noqa: BLE001 - a hub client raises what its transport raises
        answer.send(Done(problem=f"{request.name}: {_one_line(error)}"))


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _room(cache: Path, size_bytes: int) -> dict[str, Any]:
    """Return what it takes to judge whether a download fits."""
    disk = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return {"size_bytes": size_bytes, "free_bytes": shutil.disk_usage(disk).free, "cache": str(cache)}


# --- Models ---


def _model(request: PrepareModel) -> dict[str, Any]:
    try:
        hub: Any = importlib.import_module("huggingface_hub")  # the engine's environment has it
        importlib.import_module("huggingface_hub.utils")  # its attributes are lazy, this one is none of them
    except ImportError:
        raise PreparationError(
            f"{request.name} is a hub id, and this environment lacks the package huggingface_hub"
        ) from None
    hub.utils.disable_progress_bars()  # they would fill the worker's log
    folder = _cached(hub, request)
    if folder is None:
        patterns, room = _ask_hub(hub, request)
        if not request.fetch:
            return room
        folder = _download(hub, request, patterns)
    return {"path": str(folder), "revision": folder.name}


def _cached(hub: Any, request: PrepareModel) -> Path | None:
    """Return the folder of the model if all of it is in the cache. Asks the disk alone."""
    for weights in WEIGHT_FORMATS if request.weights else (None,):
        with contextlib.suppress(OSError, ValueError):  # not there, or the client knows it as not whole
            path = hub.snapshot_download(
                request.name,
                revision=request.revision,
                local_files_only=True,
                allow_patterns=_patterns(request, weights),
                ignore_patterns=WEIGHTS_IN_SUBFOLDERS,
            )
            if _is_whole(Path(path), weights):
                return Path(path)
    return None


def _patterns(request: PrepareModel, weights: str | None) -> list[str]:
    texts = TEXT_FILES if request.weights or request.tokenizer else ()
    return [*ARCHITECTURE_FILES, *texts, *([weights] if weights else ())]


def _is_whole(folder: Path, weights: str | None) -> bool:
    """Return whether configuration and weights are there, and every shard that an index of the weights names."""
    if not (folder / "config.json").exists():
        return False
    if weights is None:
        return True
    there = {path.name for path in folder.glob(weights)}
    indexes = [json.loads(path.read_text()) for path in folder.glob(f"{weights}.index.json")]
    return bool(there) and all(there.issuperset(index["weight_map"].values()) for index in indexes)


def _ask_hub(hub: Any, request: PrepareModel) -> tuple[list[str], dict[str, Any]]:
    """Return the patterns of the files to fetch, and what it takes to judge whether they fit.

    The listing of a gated model is public; whether its files may be had, only a request for one shows.
    """
    try:
        info = hub.HfApi().model_info(request.name, revision=request.revision, files_metadata=True)
        hub.get_hf_file_metadata(hub.hf_hub_url(request.name, "config.json", revision=info.sha))
    except Exception as error:
        raise PreparationError(f"{request.name} {_refusal(hub, request, error)}") from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    patterns = _patterns(request, _weight_format(request, sizes) if request.weights else None)
    wanted = hub.utils.filter_repo_objects(
        sizes, allow_patterns=patterns, ignore_patterns=WEIGHTS_IN_SUBFOLDERS
    )
    lacking = [
        name
        for name in wanted
        if not isinstance(hub.try_to_load_from_cache(request.name, name, revision=info.sha), str)
    ]
    return patterns, _room(Path(hub.constants.HF_HUB_CACHE), sum(sizes[name] for name in lacking))


def _weight_format(request: PrepareModel, names: Iterable[str]) -> str:
    top_level = [Path(name) for name in names if "/" not in name]
    for weights in WEIGHT_FORMATS:
        if any(path.match(weights) for path in top_level):
            return weights
    raise PreparationError(f"{request.name} has no weights in safetensors or PyTorch's format")


def _refusal(hub: Any, request: PrepareModel, error: Exception) -> str:
    """Return why the hub does not give a model, and what to do."""
    errors = hub.errors
    reasons: tuple[tuple[type[Exception], str], ...] = (
        (errors.GatedRepoError, "is gated: accept its licence on the hub and set HF_TOKEN"),
        (errors.RevisionNotFoundError, f"has no revision {request.revision}: name a branch, tag or commit"),
        (
            errors.RepositoryNotFoundError,
            "is neither a local folder nor a model on the hub (a private one needs HF_TOKEN)",
        ),
        (errors.EntryNotFoundError, "has no config.json: no engine here can load it"),
        (errors.HFValidationError, "is neither a local folder nor a hub id (owner/name)"),
        (
            errors.OfflineModeIsEnabled,
            "is not in the cache, and HF_HUB_OFFLINE forbids to fetch it: unset it once",
        ),
        (
            errors.HfHubHTTPError,
            f"is not in the cache, and the hub answers {_status(error)}: try again later",
        ),
        (Exception, f"is not in the cache, and the hub cannot be reached: {_one_line(error)}"),
    )
    return next(reason for kind, reason in reasons if isinstance(error, kind))


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error is about. Its text is not shown: it can hold a signed address."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def _download(hub: Any, request: PrepareModel, patterns: list[str]) -> Path:
    """Fetch into the cache under the revision's own name: by that name a later session looks for it."""
    try:
        path = hub.snapshot_download(
            request.name,
            revision=request.revision,
            allow_patterns=patterns,
            ignore_patterns=WEIGHTS_IN_SUBFOLDERS,
        )
    except Exception as error:
        cause = error.__cause__ or error
        status = _status(cause)
        reason = f"the hub answers {status}" if status else _one_line(cause)
        raise PreparationError(f"the download of {request.name} broke off: {reason}") from error
    return Path(path)


# --- Datasets ---


def _dataset(request: PrepareDataset) -> dict[str, Any]:
    try:
        import datasets  # noqa: PLC0415 - an extra, needed for datasets alone
    except ImportError:
        raise PreparationError(
            f"the dataset {request.name} needs the package datasets: pip install 'pytest-llem[datasets]'"
        ) from None
    datasets.disable_progress_bars()
    if request.fetch:
        return {"texts": dataset_prompts(request.dataset, request.count)}
    try:
        builder = datasets.load_dataset_builder(**load_arguments(request.dataset))
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise PreparationError(f"the dataset {request.name} cannot be had: {reason}") from error
    size_bytes = 0 if Path(builder.cache_dir).exists() else builder.info.download_size
    return _room(Path(datasets.config.HF_DATASETS_CACHE), size_bytes or 0)
