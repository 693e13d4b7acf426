"""Models and datasets from a hub: can they be had, do they fit, and fetch them, before anything is timed.

The hub's client runs in a child process beside the engine's libraries; the server itself imports none of it.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pytest_llem.worker.forking import Choice
from pytest_llem.worker.protocol import Done, Preparation, PrepareDataset, PrepareModel
from pytest_llem.worker.workload import dataset_source

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot")
PREFERRED_SUFFIX = ".safetensors"

Tell = Callable[[str], None]


class PreparationError(Exception):
    """The model or dataset cannot be had; the message says why in one sentence."""


def prepare(request: Preparation, start: Choice, client: socket.socket, tell: Tell) -> Done:
    """Carry out a preparation in a child process and return its facts: `path`, `revision`, `size_bytes`, `cached`.

    The child ends when the client closes the connection.
    """
    receiver, sender = start.context.Pipe(duplex=False)
    child: BaseProcess = start.context.Process(  # type: ignore[attr-defined]
        target=_child, args=(request, sender), name="llem-prepare"
    )
    tell("fetching" if request.fetch else "checking")
    child.start()
    sender.close()
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


def _child(request: Preparation, answer: Connection) -> None:
    try:
        facts = _model(request) if isinstance(request, PrepareModel) else _dataset(request)
        answer.send(Done(facts=facts))
    except PreparationError as error:
        answer.send(Done(problem=str(error)))
    except Exception as error:  # noqa: BLE001 - a hub client raises what its transport raises
        first_line = (str(error).splitlines() or [""])[0]
        answer.send(Done(problem=f"{request.name}: {type(error).__name__}: {first_line}"))


def _model(request: PrepareModel) -> dict[str, Any]:
    try:
        import huggingface_hub as hub  # noqa: PLC0415 - the engine's environment has it, the host need not
    except ImportError:
        raise PreparationError(
            f"{request.name} is a hub id, and this environment lacks the package huggingface_hub"
        ) from None
    with contextlib.suppress(Exception):  # not in the cache, or not whole: ask the hub
        path = hub.snapshot_download(
            request.name, revision=request.revision, local_files_only=True, ignore_patterns=["*.md"]
        )
        if _is_whole(Path(path), weights=request.weights):
            return {"path": path, "revision": Path(path).name, "cached": True}
    return _from_hub(hub, request)


def _is_whole(folder: Path, *, weights: bool) -> bool:
    has_weights = any(file.suffix in WEIGHT_SUFFIXES for file in folder.rglob("*"))
    return (folder / "config.json").exists() and (has_weights or not weights)


def _from_hub(hub: Any, request: PrepareModel) -> dict[str, Any]:
    try:
        info = hub.HfApi().model_info(request.name, revision=request.revision, files_metadata=True)
    except hub.errors.GatedRepoError:
        raise PreparationError(
            f"{request.name} is gated: accept its licence on the hub and set HF_TOKEN"
        ) from None
    except hub.errors.RevisionNotFoundError:
        raise PreparationError(f"{request.name} has no revision {request.revision!r}") from None
    except hub.errors.RepositoryNotFoundError:
        raise PreparationError(
            f"{request.name} is neither a local folder nor a model on the hub (a private one needs HF_TOKEN)"
        ) from None
    except (OSError, hub.errors.HfHubHTTPError, hub.errors.OfflineModeIsEnabled) as error:
        raise PreparationError(
            f"{request.name} is not in the cache and the hub cannot be reached: {type(error).__name__}"
        ) from None
    wanted = _wanted_files({s.rfilename: s.size or 0 for s in info.siblings}, weights=request.weights)
    size_bytes = sum(wanted.values())
    _check_disk(Path(hub.constants.HF_HUB_CACHE), size_bytes, request.name)
    facts = {"revision": info.sha, "size_bytes": size_bytes, "cached": False}
    if request.fetch:
        facts["path"] = hub.snapshot_download(request.name, revision=info.sha, allow_patterns=list(wanted))
    return facts


def _wanted_files(sizes: dict[str, int], *, weights: bool) -> dict[str, int]:
    """Return the files to load: configuration and tokenizer, and weights in one format, safetensors if there."""
    has_preferred = any(name.endswith(PREFERRED_SUFFIX) for name in sizes)

    def wanted(name: str) -> bool:
        if name.endswith(WEIGHT_SUFFIXES):
            return weights and "/" not in name and (name.endswith(PREFERRED_SUFFIX) or not has_preferred)
        return name.endswith((".json", ".txt", ".model", ".py", ".jinja", ".tiktoken"))

    return {name: size for name, size in sizes.items() if wanted(name)}


def _check_disk(cache: Path, needed_bytes: int, name: str) -> None:
    place = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free_bytes = shutil.disk_usage(place).free
    if needed_bytes > free_bytes:
        raise PreparationError(
            f"{name} needs {needed_bytes / 1e9:.1f} GB and {place} has {free_bytes / 1e9:.1f} GB free:"
            " free some space or set HF_HOME to a larger disk"
        )


def _dataset(request: PrepareDataset) -> dict[str, Any]:
    try:
        import datasets  # noqa: PLC0415 - an extra, needed for datasets alone
    except ImportError:
        raise PreparationError(
            f"the dataset {request.name} needs the package datasets: pip install 'pytest-llem[datasets]'"
        ) from None
    source = dataset_source(request.dataset)
    try:
        builder = datasets.load_dataset_builder(source.path, source.subset)
        if request.fetch:
            builder.download_and_prepare()
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise PreparationError(f"the dataset {request.name} cannot be had: {reason}") from error
    return {"size_bytes": builder.info.download_size}
