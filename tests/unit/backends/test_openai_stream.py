from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.backends.base import EngineError, EngineFailed
from pytest_llem.backends.openai.server import Line
from pytest_llem.backends.openai.stream import Answer
from pytest_llem.backends.openai.stream import read as read_stream

FIELDS = (
    *("choices", "text", "token_ids", "error", "message", "code"),
    *("usage", "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens"),
)
KEYS = st.sampled_from(FIELDS)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 500) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def lines(*events: Any, done: bool = True) -> list[Line]:
    """Return a stream whose events come a second apart."""
    texts = [b"data: " + json.dumps(event).encode() + b"\n" for event in events]
    if done:
        texts.append(b"data: [DONE]\n")
    return [Line(float(second), text) for second, text in enumerate(texts)]


def read(stream: list[Line]) -> Answer:
    """Return the answer of a stream; a server's words on an error are quoted as they are."""
    return read_stream(stream, str)


def text(words: str, ids: list[int] | None = None) -> dict[str, Any]:
    return {"choices": [{"text": words, "token_ids": ids}]}


def usage(output: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": output}}


@pytest.mark.parametrize(
    ("events", "first_s", "completed_s", "token_s"),
    [
        ([text("a"), text("b"), usage(2)], 0, 1, (0, 1)),
        ([text(""), text("a"), text("b"), text(""), usage(2)], 1, 2, (1, 2)),
        ([text(""), text("a"), text(""), usage(3)], 0, 2, (0, 1, 2)),
        ([text(""), text("ab"), text("c"), usage(3)], 0, 2, (0, 1, 2)),
        ([text("ab"), text("c"), usage(3)], 0, 1, None),
        ([text("ab", [1, 2]), text("c", [3]), usage(3)], 0, 1, (0, 0, 1)),
        ([text("", []), text("abc", [1, 2, 3]), usage(3)], 1, 1, (1, 1, 1)),
        ([usage(0)], None, 1, None),
    ],
)
def test_times(
    events: list[Any], first_s: float | None, completed_s: float, token_s: tuple[float, ...] | None
) -> None:
    """Tokens have times where chunks account for all of them, and the first and last chunk are known in any case."""
    answer = read(lines(*events))
    assert (answer.first_s, answer.completed_s, answer.token_s) == (first_s, completed_s, token_s)


def test_counts_are_the_servers() -> None:
    """However many chunks there are, tokens are as many as the server says."""
    answer = read(lines(text("a"), text("b"), usage(40)))
    assert (answer.prompt_tokens, answer.output_tokens, answer.cached_tokens) == (7, 40, None)


def test_lines_that_are_no_events() -> None:
    """Blank lines and comments that keep a connection alive say nothing."""
    noise = [Line(9.0, b"\n"), Line(9.5, b": keep-alive\n")]
    assert read([*noise, *lines(text("a"), usage(1))]).token_s == (0,)


def test_counts_without_an_end() -> None:
    """A stream whose counts have come is whole, also from a server that does not say [DONE]."""
    assert read(lines(text("a"), usage(1), done=False)).output_tokens == 1


@given(st.lists(VALUES, max_size=6), st.booleans())
def test_whatever_a_server_writes(events: list[Any], done: bool) -> None:
    """No stream leads to anything but an answer or one of the two sentences: refused, or failed."""
    with suppress(EngineError, EngineFailed):
        read(lines(*events, done=done))


@given(st.lists(st.binary(max_size=12), max_size=6))
def test_whatever_bytes_a_server_sends(texts: list[bytes]) -> None:
    """Bytes that are no events lead to the same two sentences."""
    with suppress(EngineError, EngineFailed):
        read([Line(0.0, b"data:" + text) for text in texts])
