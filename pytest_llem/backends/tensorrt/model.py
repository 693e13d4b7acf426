"""What a model's folder says of its tokens and its engine, read as the JSON that it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llem.backends.base import EngineError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
"""Any of these makes a tokenizer, as transformers looks for it."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model in a folder.

    Attributes:
        end_ids: tokens that end an answer, by its `config.json`.
        special_ids: those, and the tokens that begin and pad a text.
        positions: how long a sequence may be; None if it does not say.
    """

    folder: Path
    vocabulary_size: int
    end_ids: tuple[int, ...]
    special_ids: frozenset[int]
    positions: int | None

    @property
    def has_tokenizer(self) -> bool:
        """Whether texts can be turned into its tokens."""
        return any((self.folder / name).is_file() for name in TOKENIZER_FILES)


def read(folder: Path) -> Model:
    """Read a model's description.

    Raises:
        EngineError: it has none.
    """
    config = read_json(folder / "config.json")
    text = config.get("text_config", config)
    if "vocab_size" not in text:
        raise EngineError(f"{folder}/config.json names no vocab_size: it describes no language model")
    end_ids = _ids(config.get("eos_token_id", text.get("eos_token_id")))
    others = [_ids(config.get(name, text.get(name))) for name in ("bos_token_id", "pad_token_id")]
    return Model(
        folder=folder,
        vocabulary_size=text["vocab_size"],
        end_ids=end_ids,
        special_ids=frozenset(end_ids).union(*others),
        positions=text.get("max_position_embeddings"),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file holds.

    Raises:
        EngineError: it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read: {error}") from error
    return found


def _ids(value: int | list[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)
