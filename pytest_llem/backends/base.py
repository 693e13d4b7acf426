"""What a backend is: a `BackendSpec` on the host and an `Engine` in the engine process.

Imported on both sides, so it knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from pytest_llem.records import Configuration


class Parameters(BaseModel):
    """A backend's own section of a configuration; fields carry the engine's own parameter names.

    `per_call` names the fields that the engine takes with each call: a change of one of them needs no new load.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    per_call: ClassVar[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """What the host knows of a backend.

    Attributes:
        name: as written in `backend:` and `grid.backends`, and the name of its section.
        parameters: the section's model.
        batch_parameter: the parameter that a shared `batch_size` means.
        engine: import path of the engine module, imported beside the model; None: no engine in this version.
        preload: modules that a forkserver imports once for all launches.
        engine_start_timeout_s: default of `execution.start_timeout_seconds`.
        packages: distributions whose versions go into the environment snapshot.
        install: what to type where the modules of `preload` are missing.
        loads_models: `model_name` is a folder or hub id; False where it is a name that only the engine knows.
    """

    name: str
    parameters: type[Parameters]
    batch_parameter: str
    engine: str | None
    preload: tuple[str, ...] = ()
    engine_start_timeout_s: float = 1800.0
    packages: tuple[str, ...] = ()
    install: str = ""
    loads_models: bool = True


@dataclass(slots=True)
class Request:
    """One request as the engine served it. Times are `time.monotonic()` seconds."""

    submitted_s: float
    first_token_s: float | None
    completed_s: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(slots=True)
class PassReport:
    """All prompts once. `padding_tokens` were computed but are neither prompt nor output."""

    requests: list[Request]
    padding_tokens: int = 0
    preemptions: int | None = None


class Engine(Protocol):
    """A loaded model. The engine module offers `load(configuration, model_files) -> Engine`."""

    vocabulary_size: int
    special_token_ids: frozenset[int]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids; raises `EngineError` when the model has no tokenizer."""

    def effective(self) -> dict[str, Any]:
        """Return what was really applied, by the parameter names of the configuration."""

    def run_pass(
        self, prompts: Sequence[Sequence[int]], configuration: Configuration, beat: Callable[[], None]
    ) -> PassReport:
        """Serve every prompt once; call `beat` at least once a batch to show that work goes on."""

    def drain(self) -> None:
        """Return when the engine has finished all submitted work."""

    def memory_peak_bytes(self) -> int | None:
        """Return the most memory that the device held for the current configuration; None if not known."""


class EngineError(Exception):
    """The engine refuses: the message says what, in one sentence, for the person who wrote the campaign."""
