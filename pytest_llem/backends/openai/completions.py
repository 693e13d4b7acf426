"""The requests of one configuration: what each says, and what is checked of its answer."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from pytest_llem.backends.base import EngineError, Request
from pytest_llem.backends.openai import stream
from pytest_llem.backends.openai.prompts import PromptForm
from pytest_llem.backends.openai.server import Server
from pytest_llem.backends.openai.spec import OpenAIParameters
from pytest_llem.backends.openai.stream import Answer
from pytest_llem.backends.sampling import resolve
from pytest_llem.records import Configuration


class Completions:
    """Sends prompts and returns requests as they were served. Called from several threads.

    Args:
        server: where to.
        model: as the server calls it.
        form: how prompts are sent.
        configuration: of all of them.

    Attributes:
        has_served: whether an answer has been checked.
    """

    def __init__(self, server: Server, model: str, form: PromptForm, configuration: Configuration) -> None:
        self._server = server
        self._form = form
        self._wanted = configuration
        self._parameters = OpenAIParameters.model_validate(configuration.parameters)
        self._body = {"model": model, **_body(configuration, self._parameters)}
        self.has_served = False

    def serve(self, ids: Sequence[int]) -> Request:
        """Send one prompt and return how it was served, submitted when it was sent.

        Raises:
            EngineError, EngineFailed: it was not, or not as asked.
        """
        body = self._salt() | self._body | {"prompt": self._form.prompt(ids)}
        sent_s, lines = self._server.complete(body, self._parameters.concurrency)
        answer = stream.read(lines, self._server.quoted)
        self._check(answer, len(ids))
        self.has_served = True
        return Request(
            submitted_s=sent_s,
            first_token_s=answer.first_s,
            completed_s=answer.completed_s,
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens,
            cached_tokens=answer.cached_tokens,
            token_s=answer.token_s if self._wanted.streaming else None,
        )

    def _salt(self) -> dict[str, Any]:
        """Return what keeps a prefix cache from serving a prompt that it has seen, where the server knows the word.

        Prompts come again in each cycle, and the server outlives it.
        """
        forbidden = self._wanted.prefix_reuse == "forbid" and "cache_salt" not in self._parameters.extra_body
        return {"cache_salt": secrets.token_hex(16)} if forbidden else {}

    def _check(self, answer: Answer, ids: int) -> None:
        wanted, got = self._wanted.max_output_tokens, answer.output_tokens
        if got > wanted:
            raise EngineError(
                f"an answer has {got} output tokens, and max_tokens was {wanted}: the server ignores it"
            )
        if got < wanted and self._wanted.output_length == "exact":
            raise EngineError(
                f"the server ended an answer after {got} of {wanted} output tokens: tell it not to by"
                " openai.extra_body (many servers know ignore_eos: true, which was sent unless you took it out), or"
                " set output_length: natural"
            )
        if self._parameters.prompt_form == "token_ids" and answer.prompt_tokens not in (ids, ids + 1):
            raise EngineError(
                f"{ids} token ids were sent and the server counts {answer.prompt_tokens} prompt tokens: it takes no"
                " token ids, or cuts prompts; set openai.prompt_form: text, or a lower max_input_tokens"
            )


def _body(configuration: Configuration, parameters: OpenAIParameters) -> dict[str, Any]:
    """Return what all requests of a configuration say beside model and prompt.

    What only some servers know is said where it changes something: `top_k`, `repetition_penalty`, `ignore_eos`.
    """
    sampling = resolve(configuration.decoder)
    said: dict[str, Any] = {
        "max_tokens": configuration.max_output_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": configuration.random_seed,
        "temperature": sampling.temperature if sampling.do_sample else 0.0,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or None,
        "repetition_penalty": None if sampling.repetition_penalty == 1 else sampling.repetition_penalty,
        "ignore_eos": True if configuration.output_length == "exact" else None,
        **parameters.extra_body,
    }
    return {name: value for name, value in said.items() if value is not None}
