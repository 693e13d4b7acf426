from __future__ import annotations

import socket
from typing import Any

import pytest
from pydantic import ValidationError

from pytest_llem.backends.openai.spec import SPEC, OpenAIParameters, is_this_machine, model_runs
from pytest_llem.records import Configuration


def runs_at(base_url: str) -> str:
    return model_runs(Configuration(parameters={"base_url": base_url}))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("base_url", "127.0.0.1:8000", "is no address of a server"),
        ("base_url", "ftp://127.0.0.1/v1", "is no address of a server"),
        ("base_url", "http:///v1", "is no address of a server"),
        ("base_url", "http://me:secret@host/v1", "holds no key"),
        ("base_url", "http://host/v1?key=secret", "holds no key"),
        ("api_key_env", "sk-secret", "never the key"),
        ("api_key_env", "", "never the key"),
        ("extra_body", {"prompt": "x", "echo": True}, "echo, prompt cannot be set here"),
        ("concurrency", 0, "greater than or equal to 1"),
        ("timeout_seconds", 0, "greater than 0"),
        ("prompt_form", "words", "'token_ids' or 'text'"),
    ],
)
def test_a_value_is_refused(name: str, value: Any, words: str) -> None:
    """What cannot work, or would put a key into files, is refused while the campaign is read."""
    with pytest.raises(ValidationError, match=words):
        OpenAIParameters.model_validate({name: value})


def test_a_slash_at_the_end_changes_nothing() -> None:
    """Two spellings of one address are one server."""
    assert OpenAIParameters(base_url="http://h/v1/") == OpenAIParameters(base_url="http://h/v1")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.9.1", socket.gethostname()])
def test_this_machine(host: str) -> None:
    """Names and addresses of this machine are known as such."""
    assert is_this_machine(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "nowhere.invalid"])
def test_another_machine(host: str) -> None:
    """An address of another machine, or a name without one, is not taken for this one."""
    assert not is_this_machine(host)


def test_the_model_is_never_in_the_engine_process() -> None:
    """A server here is beside the engine, another one elsewhere."""
    assert SPEC.model_runs is model_runs
    assert runs_at("http://127.0.0.1:8000/v1") == "beside_engine"
    assert runs_at("https://192.0.2.1/v1") == "elsewhere"
