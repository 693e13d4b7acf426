"""What host and worker say to each other: one JSON line a message, over a Unix socket.

A connection carries one request. The server answers with any number of `Event`s and exactly one last message.
Closing the connection cancels what was asked for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from pytest_llem.records import (
    Configuration,
    Count,
    Dataset,
    Environment,
    Failure,
    Idle,
    MachineSettings,
    Measurement,
    ModelRuns,
    NonNegative,
    Record,
)

PROTOCOL_VERSION = 4
"""Both sides must speak the same; the hello says which, so that a stale image is named instead of guessed at."""

LOG_LIMIT_BYTES = 1 << 20
"""An experiment's log travels whole up to here, then its end only."""


class Hello(Record):
    """Ask who is there."""

    op: Literal["hello"] = "hello"
    protocol: int = PROTOCOL_VERSION


class WarmupPolicy(Record):
    """The campaign's floor and cap, already merged with the experiment's own `warmup`."""

    min_prompts: Annotated[int, Field(ge=0)]
    timeout_s: NonNegative


class Timeouts(Record):
    """Ends of patience, in seconds: for the load, for warm-up and windows together, for silence."""

    start_s: float
    run_s: float
    silence_s: float


class Order(Record):
    """Carry out one experiment.

    Attributes:
        launch: the launch that must serve it; the server starts it when it is not the live one.
        engine: import path of the engine module.
        model: absolute folder beside the worker, or hub id, without the `random:` prefix.
        model_files: text of the files that describe an architecture, by name; the worker puts them into a folder
            and `model` is only a name then. So random weights need nothing of the host's disk.
        devices: UUIDs of the GPUs that the engine sees and whose energy is its own; None: all of the service.
        model_runs: where the model runs, and with it which meters see its energy.
        prompts: the texts of `prompts_file` or of the dataset; None draws synthetic prompts.
        window_s, window_passes: of each window, whole passes until both are reached.
        idle: idle powers that are known; the worker takes those that are its own machine's.
        measured: False runs one pass and measures nothing (conditioning).
    """

    op: Literal["run"] = "run"
    experiment_id: str
    launch: str
    engine_key: str
    engine: str
    model: str
    model_files: dict[str, str] | None = None
    configuration: Configuration
    devices: tuple[str, ...] | None = None
    model_runs: ModelRuns = "in_engine"
    prompts: tuple[str, ...] | None = None
    warmup: WarmupPolicy
    window_s: NonNegative
    window_passes: Count
    timeouts: Timeouts
    idle: tuple[Idle, ...] = ()
    measured: bool = True


class Attach(Record):
    """Stay as long as this connection does, then end: a container must not outlive the session that started it."""

    op: Literal["attach"] = "attach"


class EndLaunch(Record):
    """End the live engine process and answer when it is gone."""

    op: Literal["end_launch"] = "end_launch"


class PrepareModel(Record):
    """Find out whether and how a hub model can be had; with `fetch` download it.

    Attributes:
        weights: False asks for the architecture alone.
        tokenizer: asks for the tokenizer of a model whose weights are not wanted.
    """

    op: Literal["prepare_model"] = "prepare_model"
    name: str
    revision: str | None = None
    weights: bool = True
    tokenizer: bool = False
    fetch: bool = False


class PrepareDataset(Record):
    """Find out whether a dataset can be had; with `fetch` download it and return its first `count` texts."""

    op: Literal["prepare_dataset"] = "prepare_dataset"
    dataset: Dataset
    count: Count
    fetch: bool = False

    @property
    def name(self) -> str:
        """The dataset's name, as messages use it."""
        return self.dataset.name


Preparation = PrepareModel | PrepareDataset
AnyRequest = Hello | Attach | Order | EndLaunch | Preparation
Request = Annotated[AnyRequest, Field(discriminator="op")]
REQUEST: TypeAdapter[AnyRequest] = TypeAdapter(Request)


class Welcome(Record):
    """The answer to `Hello`.

    Attributes:
        pid: the server's process id, as it sees itself; in a container not that of the host.
        engine_pids: likewise, of the live engine process and its descendants.
    """

    type: Literal["welcome"] = "welcome"
    protocol: int = PROTOCOL_VERSION
    version: str
    pid: int
    engine_pids: tuple[int, ...] = ()
    start_method: Literal["forkserver", "spawn"]
    start_method_reason: str
    environment: Environment


class Event(Record):
    """Something worth showing while it runs: a phase (`loading`, `loaded idle`, `window`) or a download."""

    type: Literal["event"] = "event"
    phase: str
    detail: dict[str, Any] = Field(default_factory=dict)


class Answer(Record):
    """The last message of an `Order`: a measurement or a failure, and the engine's output.

    Attributes:
        settings: of the machine when the order came; None: it was not taken up.
        idle: idle powers that were measured on the way, for later orders; after a failure too.
        trace: the lines of `meters.trace`, compressed by gzip; None: none was wanted, or there is nothing to sample.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    type: Literal["answer"] = "answer"
    measurement: Measurement | None = None
    failure: Failure | None = None
    settings: MachineSettings | None = None
    idle: tuple[Idle, ...] = ()
    trace: bytes | None = None
    log: str = ""


class Done(Record):
    """The last message of `EndLaunch` and of a preparation; `problem` is one sentence when it did not work."""

    type: Literal["done"] = "done"
    problem: str | None = None
    facts: dict[str, Any] = Field(default_factory=dict)


Reply = Annotated[Welcome | Event | Answer | Done, Field(discriminator="type")]
REPLY: TypeAdapter[Welcome | Event | Answer | Done] = TypeAdapter(Reply)
