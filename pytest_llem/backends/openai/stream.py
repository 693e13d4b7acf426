"""What a streamed answer says: how many tokens there were, and when they came.

Tokens are counted by the server (`usage`). A chunk may hold several tokens or none, so chunks are no count. Some
servers say which tokens a chunk holds (`token_ids`; vLLM with `return_token_ids`): then all have their times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pytest_llem.backends.base import EngineError, EngineFailed
from pytest_llem.backends.openai.server import Line, error_words

Quote = Callable[[str | None], str]
"""Makes of a server's words what a message may say, as `Server.quoted` does."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Times are `time.monotonic()` seconds.

    Attributes:
        first_s: when the first chunk was there; None: there was none.
        completed_s: when the last one was there.
        token_s: when each token was there, if there was a chunk for each, or if chunks say what they hold; else None.
        cached_tokens: of the prompt; None: the server does not say.
    """

    first_s: float | None
    completed_s: float
    token_s: tuple[float, ...] | None
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None


class _Chunk(NamedTuple):
    """A piece of the answer: when it was there, whether it has text, and how many tokens it says that it holds."""

    at_s: float
    has_text: bool
    tokens: int


def _chunk(at_s: float, choice: Any) -> _Chunk:
    ids = _mapping(choice).get("token_ids")
    return _Chunk(at_s, bool(_mapping(choice).get("text")), len(ids) if isinstance(ids, list) else 0)


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return what should be a mapping, or an empty one: what a server writes is not ours."""
    return value if isinstance(value, dict) else {}


def read(lines: Sequence[Line], quoted: Quote) -> Answer:
    """Return the answer that the lines of a stream hold.

    Raises:
        EngineFailed: the stream ended early, or in an error.
        EngineError: the server does not count tokens in streams.
    """
    chunks: list[_Chunk] = []
    usage: Any = None
    is_whole = False
    for at_s, text in lines:
        if not text.startswith(b"data:"):
            continue  # blank lines, comments that keep a connection alive
        data = text.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            is_whole = True
            continue
        event = _event(data, quoted)
        usage = event.get("usage") or usage
        choices = event.get("choices")
        chunks += [_chunk(at_s, choice) for choice in choices] if isinstance(choices, list) else []
    if not is_whole and usage is None:
        raise EngineFailed(f"the server broke the stream off after {len(chunks)} chunks: see its log")
    return _answer(chunks, _counts(usage), lines[-1].at_s)


class _Counts(NamedTuple):
    prompt: int
    output: int
    cached: int | None


def _event(data: bytes, quoted: Quote) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        raise EngineFailed("the server broke the stream off within a chunk: see its log") from None
    if not isinstance(event, dict):
        raise EngineError("the server's stream is not that of OpenAI's completions")
    if error := event.get("error"):
        words = quoted(error_words(event))
        code = _mapping(error).get("code")
        if isinstance(code, int) and 400 <= code < 500:
            raise EngineError(f"the server refuses the request ({code}): {words}")
        raise EngineFailed(f"the server failed within a stream: {words}")
    return event


def _counts(usage: Any) -> _Counts:
    counts = _mapping(usage)
    prompt, output = counts.get("prompt_tokens"), counts.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(output, int):
        raise EngineError(
            "the server counts no tokens in its stream: it must know stream_options: {include_usage: true}"
        )
    cached = _mapping(counts.get("prompt_tokens_details")).get("cached_tokens")
    return _Counts(prompt, output, cached if isinstance(cached, int) else None)


def _answer(chunks: Sequence[_Chunk], counts: _Counts, end_s: float) -> Answer:
    """Take for the times of tokens what is as many: what chunks hold, those with text, or all of them.

    Some tokens have no text; some servers begin or end with a chunk that holds no token.
    """
    told = [chunk.at_s for chunk in chunks for _ in range(chunk.tokens)]
    with_text = [chunk.at_s for chunk in chunks if chunk.has_text]
    every = [chunk.at_s for chunk in chunks]
    token_s = next((times for times in (told, with_text, every) if len(times) == counts.output), None)
    times = token_s or with_text or every
    return Answer(
        first_s=times[0] if times else None,
        completed_s=times[-1] if times else end_s,
        token_s=tuple(token_s) if token_s else None,
        prompt_tokens=counts.prompt,
        output_tokens=counts.output,
        cached_tokens=counts.cached,
    )
