"""The server as its client sees it: one connection a request, and a sentence for each way it can go wrong."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pytest_llem.backends.base import EngineError, EngineFailed
from pytest_llem.backends.openai.spec import OpenAIParameters

QUOTED = 300
"""Characters of a server's own words that a message quotes at most."""


class Line(NamedTuple):
    """A line of a stream, and when it was there (`time.monotonic()`)."""

    at_s: float
    text: bytes


class Server:
    """A server with OpenAI's API. Its methods may be called from several threads.

    Args:
        parameters: where it is, and which variable holds the key.

    Raises:
        EngineError: that variable is not set.
    """

    def __init__(self, parameters: OpenAIParameters) -> None:
        self.base_url = parameters.base_url
        parts = urlsplit(parameters.base_url)
        assert parts.hostname is not None, "the spec has checked it"
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path
        self._is_secure = parts.scheme == "https"
        self._key_variable = parameters.api_key_env
        self._key = _key(parameters.api_key_env)
        self.timeout_s = parameters.timeout_seconds

    def models(self) -> list[dict[str, Any]]:
        """Return what the server says of its models.

        Raises:
            EngineError, EngineFailed: it cannot be asked.
        """
        with self._exchange("GET", f"{self._path}/models") as response:
            if response.status in (404, 405):
                raise EngineError(
                    f"{self.base_url}/models is not there ({response.status}): openai.base_url is the root of the"
                    " API, which mostly ends in /v1"
                )
            self._check(response)
            found = _json(response.read())
        models = found.get("data") if isinstance(found, dict) else None
        if not isinstance(models, list):
            raise EngineError(f"{self.base_url}/models lists no models: openai.base_url is another server's")
        return [model for model in models if isinstance(model, dict)]

    def version(self) -> str | None:
        """Return the server's version, where it tells it as vLLM does; None: it does not."""
        with self._exchange("GET", f"{self._root}/version") as response:
            told = _json(response.read()) if response.status == 200 else None
        version = told.get("version") if isinstance(told, dict) else None
        return version if isinstance(version, str) else None

    def tokenize(self, text: str, model: str) -> list[int]:
        """Return the token ids of a text, from a server that can say (vLLM, SGLang, llama.cpp).

        Raises:
            EngineError: it cannot.
        """
        body = {"model": model, "prompt": text, "content": text}  # llama.cpp calls it content
        with self._exchange("POST", f"{self._root}/tokenize", body) as response:
            told = _json(response.read()) if response.status == 200 else None
        tokens = told.get("tokens") if isinstance(told, dict) else None
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise EngineError(
                "the server does not turn texts into token ids (no /tokenize): set openai.prompt_form: text,"
                " or use synthetic prompts"
            )
        return tokens

    def complete(self, body: Mapping[str, Any], in_flight: int) -> tuple[float, list[Line]]:
        """Send a request for a streamed completion; return when it was sent, and all lines of the answer.

        The lines are only kept: reading them here would delay those of other requests.

        Args:
            body: of the request.
            in_flight: how many there are at once, for the message.

        Raises:
            EngineError, EngineFailed: there is no answer, or not the whole of it.
        """
        sent_s = time.monotonic()
        with self._exchange("POST", f"{self._path}/completions", body) as response:
            if response.status == 429:
                raise EngineError(
                    f"the server turned a request away (429) with up to {in_flight} in flight:"
                    " lower openai.concurrency or the load"
                )
            self._check(response)
            lines = []
            while text := response.readline():
                lines.append(Line(time.monotonic(), text))
        return sent_s, lines

    def quoted(self, words: str | None) -> str:
        """Return the server's words for a message: in one line, and without the key should the server repeat it."""
        line = " ".join((words or "").split()) or "it does not say why"
        return (line.replace(self._key, "(the key)") if self._key else line)[:QUOTED]

    @property
    def _root(self) -> str:
        """Where a server has what is not OpenAI's."""
        return self._path.removesuffix("/v1")

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Iterator[HTTPResponse]:
        kind = HTTPSConnection if self._is_secure else HTTPConnection
        connection = kind(self._host, self._port, timeout=self.timeout_s)
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        with closing(connection):
            try:
                connection.connect()
            except OSError as error:
                raise EngineFailed(
                    f"no server answers at {self.base_url} ({_reason(error)}): start it, or set openai.base_url"
                ) from None
            try:
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                yield connection.getresponse()
            except TimeoutError:
                raise EngineFailed(
                    f"the server said nothing for {self.timeout_s:g} s: see its log, or raise openai.timeout_seconds"
                ) from None
            except (OSError, HTTPException) as error:
                raise EngineFailed(
                    f"the server broke the connection off ({_reason(error)}): see its log"
                ) from None

    def _check(self, response: HTTPResponse) -> None:
        """Raise for an answer that is none.

        Raises:
            EngineError: the author of the campaign can change it.
            EngineFailed: the server has a problem of its own.
        """
        status = response.status
        if status == 200:
            return
        if status in (401, 403):
            key = f"the key in {self._key_variable}" if self._key else "a request without a key"
            remedy = "" if self._key else ": set openai.api_key_env to the name of the variable that holds it"
            raise EngineError(f"the server refuses {key} ({status}){remedy}")
        body = response.read()
        words = self.quoted(error_words(_json(body)) or body.decode(errors="replace"))
        if 400 <= status < 500:
            raise EngineError(f"the server refuses the request ({status}): {words}")
        raise EngineFailed(f"the server failed ({status}): {words}")


def error_words(told: Any) -> str | None:
    """Return the message of an error in OpenAI's form, or in one of those that servers have beside it."""
    if not isinstance(told, dict):
        return None
    inner = told.get("error", told)
    words = inner.get("message") or inner.get("detail") if isinstance(inner, dict) else inner
    return words if isinstance(words, str) else None


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise EngineError(f"openai.api_key_env names {variable}, and that environment variable is not set")
    return key


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
