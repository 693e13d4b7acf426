"""Prompts as a server takes them: token ids as they are, or words where it takes texts only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pytest_llem.backends.base import EngineError
from pytest_llem.backends.openai.server import Server
from pytest_llem.backends.openai.spec import OpenAIParameters

CONSONANTS, VOWELS = "bdfgklmnprst", "aeiou"


class PromptForm(Protocol):
    """From token ids to what a request's `prompt` holds."""

    vocabulary_size: int
    special_token_ids: frozenset[int]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of texts."""

    def prompt(self, ids: Sequence[int]) -> str | list[int]:
        """Return what is sent."""


class TokenIds:
    """The ids of the model's own vocabulary."""

    def __init__(self, server: Server, model: str, vocabulary: Vocabulary) -> None:
        self._server = server
        self._model = model
        self.vocabulary_size, self.special_token_ids = vocabulary

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Have the server turn texts into ids."""
        return [self._server.tokenize(text, self._model) for text in texts]

    def prompt(self, ids: Sequence[int]) -> list[int]:
        """Return the ids."""
        return list(ids)


class Words:
    """Words in the place of tokens: their number is exact, that of their tokens is what the server counts.

    Synthetic prompts are made of 720 syllables that no prompt of another kind is likely to begin with.
    """

    special_token_ids: frozenset[int] = frozenset()

    def __init__(self) -> None:
        self._words = ["".join(letters) for letters in product(CONSONANTS, VOWELS, CONSONANTS)]
        self._numbers = {word: number for number, word in enumerate(self._words)}
        self.vocabulary_size = len(self._words)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Number the words of texts."""
        return [[self._number(word) for word in text.split()] for text in texts]

    def prompt(self, ids: Sequence[int]) -> str:
        """Return the words with those numbers."""
        return " ".join(self._words[number] for number in ids)

    def _number(self, word: str) -> int:
        if word not in self._numbers:
            self._numbers[word] = len(self._words)
            self._words.append(word)
        return self._numbers[word]


class Vocabulary(NamedTuple):
    """How many token ids a model has, and which of them are no ordinary ones."""

    size: int
    special: frozenset[int]


def form_of(parameters: OpenAIParameters, server: Server, model: str, folder: Path) -> PromptForm:
    """Return the form in which prompts are sent.

    Raises:
        EngineError: token ids are to be sent, and nothing says how many there are.
    """
    if parameters.prompt_form == "text":
        return Words()
    return TokenIds(server, model, _vocabulary(parameters, folder / "config.json"))


def _vocabulary(parameters: OpenAIParameters, path: Path) -> Vocabulary:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    text = config.get("text_config") or {}
    size = parameters.vocabulary_size or config.get("vocab_size") or text.get("vocab_size")
    if not size:
        raise EngineError(
            "nothing says how many token ids the model has: let model_name be a folder with its config.json, or set"
            " openai.vocabulary_size, or openai.prompt_form: text"
        )
    named = [part.get(f"{kind}_token_id") for part in (config, text) for kind in ("bos", "eos", "pad")]
    ids = [one for value in named for one in (value if isinstance(value, list) else [value])]
    return Vocabulary(size, frozenset(one for one in ids if isinstance(one, int)))
