"""What a backend is: a `BackendSpec` on the host and an `Engine` in the engine process.

Imported on both sides, so it knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from pytest_llem.records import Configuration, ModelRuns


class Parameters(BaseModel):
    """A backend's own section of a configuration; fields carry the engine's own parameter names.

    `per_call` names the fields that the engine takes with each call: a change of one of them needs no new load.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    per_call: ClassVar[frozenset[str]] = frozenset()


def in_engine(configuration: Configuration) -> ModelRuns:  # noqa: ARG001 - it is so for all of them
    """Return where the models of most backends run: in the engine process and its children."""
    return "in_engine"


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """What the host knows of a backend.

    Attributes:
        name: as written in `backend:` and `grid.backends`, and the name of its section.
        parameters: the section's model.
        batch_parameter: the parameter that a shared `batch_size` means.
        engine: import path of the engine module, imported beside the model; None: no engine in this version.
        preload: modules that a forkserver imports once for all launches; none: engines are spawned.
        modules: further modules that must be importable beside the model.
        engine_start_timeout_s: default of `execution.start_timeout_seconds`.
        packages: distributions whose versions go into the environment snapshot.
        install: what to type where modules are missing.
        loads_models: `model_name` is a folder or hub id; False where it is a name that only the engine knows.
        needs_nvidia_gpu: without one nothing of it can run.
        model_runs: where a configuration's model runs; energy that this machine's meters do not see is not counted.
        without_service: what to do in containers where no Compose file has a service for it.
    """

    name: str
    parameters: type[Parameters]
    batch_parameter: str
    engine: str | None
    preload: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    engine_start_timeout_s: float = 1800.0
    packages: tuple[str, ...] = ()
    install: str = ""
    loads_models: bool = True
    needs_nvidia_gpu: bool = False
    model_runs: Callable[[Configuration], ModelRuns] = in_engine
    without_service: str = ""


Build = Literal["hit", "miss"] | None
"""What a build came to: the cache had it, or it was compiled; None: there is nothing to compile."""


@dataclass(slots=True)
class Request:
    """One request as the engine served it. Times are `time.monotonic()` seconds.

    Attributes:
        submitted_s: when it was there to be served; under load waiting is in its latencies from then on.
        started_s: when the engine began with it; None: as soon as it was submitted.
        cached_tokens: of the prompt, from a prefix cache; None: the engine does not count them.
        token_s: when each output token was there, with `streaming`; None: the engine kept no times between the
            first and the last.
    """

    submitted_s: float
    first_token_s: float | None
    completed_s: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None = 0
    started_s: float | None = None
    token_s: Sequence[float] | None = None


@dataclass(slots=True)
class PassReport:
    """What was served: all prompts once, or what a step completed.

    Attributes:
        padding_tokens: computed, but neither prompt nor output.
        preemptions: requests that were put back to wait; None if the engine does not count them.
    """

    requests: list[Request]
    padding_tokens: int = 0
    preemptions: int | None = None


class Engine(Protocol):
    """A loaded model. The engine module offers `load(configuration, model_files) -> Engine`.

    A backend that compiles ahead offers `build(configuration, model_files) -> Build` beside it, which is called
    before `load`, in the same process. It leaves what `load` will need in a cache of its own. Time and energy of
    what it compiles are reported apart from those of the load.
    """

    vocabulary_size: int
    special_token_ids: frozenset[int]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids; raises `EngineError` when the model has no tokenizer."""

    def effective(self) -> dict[str, Any]:
        """Return what was really applied, by the parameter names of the configuration."""

    def run_pass(
        self, prompts: Sequence[Sequence[int]], configuration: Configuration, beat: Callable[[], None]
    ) -> PassReport:
        """Serve every prompt once; call `beat` at least once a batch to show that work goes on.

        With `configuration.streaming` each request has the time of every token.
        """

    def batch_limit(self, configuration: Configuration) -> int | None:
        """Return how many requests are served at the same time at most; None if not known."""

    def drain(self) -> None:
        """Return when the engine has finished all submitted work."""

    def memory_peak_bytes(self) -> int | None:
        """Return the most memory that the device held for the current configuration; None if not known."""


@runtime_checkable
class Scheduler(Protocol):
    """What an engine offers beside `run_pass` if it can take requests while it serves others.

    An engine without it serves a load all the same: the worker makes waiting requests into batches.
    """

    def submit(self, prompt: Sequence[int], submitted_s: float, configuration: Configuration) -> None:
        """Take one request, there to be served since `submitted_s`, and return at once."""

    def step(self, beat: Callable[[], None]) -> PassReport:
        """Work on the submitted requests for a moment, and report those that are complete now."""

    def cancel(self) -> list[Request]:
        """Forget every submitted request, and return those that had begun, as far as they got."""


@runtime_checkable
class Demanding(Protocol):
    """What an engine offers beside `effective` if its parameters leave something to the engine.

    Without it every parameter that is not None is compared with what `effective` says of it.
    """

    def asked(self, configuration: Configuration) -> dict[str, Any]:
        """Return what a configuration demands, in the names of `effective`; what it leaves open is not in it."""


class EngineError(Exception):
    """The engine refuses: the message says what, in one sentence, for the person who wrote the campaign."""


class EngineFailed(Exception):
    """The engine broke down: the message says how, in one sentence; the campaign need not be wrong."""
