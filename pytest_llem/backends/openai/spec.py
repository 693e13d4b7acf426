"""What the host knows of the `openai` backend: its section of a campaign file, and which machine its server is."""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from pytest_llem.backends.base import BackendSpec, Parameters
from pytest_llem.records import Configuration, Count, ModelRuns

OWN_KEYS = frozenset(
    {"model", "prompt", "max_tokens", "stream", "stream_options", "n", "best_of", "echo", "suffix"}
)
"""Of a request's body: what the engine sets itself, and what would make the server's counts mean something else."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class OpenAIParameters(Parameters):
    """The `openai:` section: where a server is, and what each request says.

    Attributes:
        base_url: root of the API; `/models` and `/completions` are below it.
        model: what the server calls the model; None: as `model_name` does.
        api_key_env: name of the environment variable that holds the key; None: none is sent.
        concurrency: requests in flight at once, at most.
        prompt_form: `token_ids`, or `text` for servers that take no ids: then a word counts as a token of a prompt.
        vocabulary_size: of synthetic token ids; None reads it from the `config.json` in the model's folder.
        timeout_seconds: how long the server may be silent.
        extra_body: further arguments of each request; null takes one out that would be sent.
    """

    per_call: ClassVar[frozenset[str]] = frozenset({"concurrency", "extra_body"})

    base_url: str = "http://127.0.0.1:8000/v1"
    model: str | None = None
    api_key_env: str | None = None
    concurrency: Count = 256
    prompt_form: Literal["token_ids", "text"] = "token_ids"
    vocabulary_size: Count | None = None
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    extra_body: dict[str, Any] = Field(default_factory=dict)

    @field_validator("base_url")
    @classmethod
    def _is_a_plain_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{value!r} is no address of a server: write one like http://127.0.0.1:8000/v1")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "an address holds no key, query or fragment here; name the key's variable in api_key_env"
            )
        return value.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not VARIABLE.fullmatch(value):
            raise ValueError("write the name of the environment variable that holds the key, never the key")
        return value

    @field_validator("extra_body")
    @classmethod
    def _leaves_the_counts_alone(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(OWN_KEYS & value.keys()):
            raise ValueError(f"{', '.join(taken)} cannot be set here: the campaign's own keys decide it")
        return value


def model_runs(configuration: Configuration) -> ModelRuns:
    """Return whether the server is on this machine; its model is never in the engine process."""
    base_url = OpenAIParameters.model_validate(configuration.parameters).base_url
    host = urlsplit(base_url).hostname
    return "beside_engine" if host and is_this_machine(host) else "elsewhere"


@lru_cache(maxsize=64)
def is_this_machine(host: str) -> bool:
    """Return whether a name or address is one of this machine's own; a tunnel to another one is not seen through."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return any(_is_own(family, address) for family, _, _, _, address in found)


def _is_own(family: int, address: tuple[Any, ...]) -> bool:
    """Return whether a socket can be bound to an address, as only to those of this machine."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


SPEC = BackendSpec(
    name="openai",
    parameters=OpenAIParameters,
    batch_parameter="concurrency",
    engine="pytest_llem.backends.openai.engine",
    preload=("pytest_llem.backends.openai.engine",),
    engine_start_timeout_s=60.0,
    loads_models=False,
    model_runs=model_runs,
    without_service="the openai backend is a client and needs no container: add --campaign-executor local",
)
