"""What an engine is asked: the prompts of a pass, drawn anew or from a fixed list of texts.

`read_prompts` runs on the host, the rest beside the model, so nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pytest_llem.backends.base import EngineError
from pytest_llem.records import Dataset

Stream = Literal["warmup", "window", "prefill"]
"""Warm-up and windows draw from disjoint streams, so that no cache that one filled serves the other."""

_STREAM_NUMBERS: MappingProxyType[Stream, int] = MappingProxyType({"warmup": 0, "window": 1, "prefill": 2})


# --- Synthetic prompts ---


def synthetic(
    stream: Stream,
    number: int,
    *,
    seed: int,
    count: int,
    length: int,
    vocabulary_size: int,
    special_token_ids: Collection[int],
) -> list[list[int]]:
    """Return the prompts of pass `number` of a stream: token ids drawn uniformly, without special ones.

    They depend on the arguments alone, so every configuration and cycle with the same sizes serves the same
    prompts: input values alone can move a GPU's power by up to 67 % (arXiv 2212.08805).
    """
    import numpy as np  # noqa: PLC0415 - the host reads prompts without it

    ordinary = _ordinary(vocabulary_size, frozenset(special_token_ids))
    randomness = np.random.SeedSequence([seed, _STREAM_NUMBERS[stream], number])
    drawn = np.random.Generator(np.random.PCG64(randomness)).integers(len(ordinary), size=(count, length))
    prompts: list[list[int]] = ordinary[drawn].tolist()
    return prompts


@lru_cache(maxsize=1)  # for 128,000 token ids some 20 ms, which not every pass shall take
def _ordinary(vocabulary_size: int, special_token_ids: frozenset[int]) -> Any:
    """Return all token ids but the special ones, as an array."""
    import numpy as np  # noqa: PLC0415 - the host reads prompts without it

    return np.setdiff1d(np.arange(vocabulary_size), np.fromiter(special_token_ids, dtype=np.int64))


def prompts_sha256(prompts: Iterable[Sequence[int]]) -> str:
    """Return the SHA-256 in hex of token ids: per prompt its length and ids as little-endian 32-bit words."""
    digest = sha256()
    for prompt in prompts:
        digest.update(struct.pack(f"<{len(prompt) + 1}I", len(prompt), *prompt))
    return digest.hexdigest()


# --- Prompts from texts: one fixed list, the same in each pass ---


def fixed(
    tokenize: Callable[[Sequence[str]], list[list[int]]], texts: Sequence[str], count: int, max_tokens: int
) -> list[list[int]]:
    """Return the token ids of the first `count` texts, each cut after `max_tokens`.

    Raises:
        EngineError: for fewer texts than `count`: to repeat some would let a prefix cache serve them.
    """
    if len(texts) < count:
        raise EngineError(
            f"num_input_prompts asks for {count} prompts and the source has {len(texts)}:"
            f" set num_input_prompts to {len(texts)} or less, or add prompts"
        )
    prompts = [ids[:max_tokens] for ids in tokenize(texts[:count])]
    if [] in prompts:
        raise EngineError(f"prompt {prompts.index([]) + 1} has no tokens: remove it")
    return prompts


def read_prompts(path: Path) -> list[str]:
    """Return the texts of a prompts file, without blank ones.

    `.txt` holds a prompt a line; `.jsonl` a JSON value a line; `.json` a list of them. Such a value is a
    string, or an object whose `prompt` or `text` is one.

    Raises:
        ValueError: for another suffix or content; the message names the file and the place.
        OSError: when the file cannot be read.
    """
    if path.suffix not in _READERS:
        raise ValueError(f"{path}: a prompts file ends in {', '.join(_READERS)}")
    return [text.strip() for text in _READERS[path.suffix](path) if text.strip()]


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each line that is not blank with its place."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", line


def _from_text(path: Path) -> Iterator[str]:
    return (line for _, line in _lines(path))


def _from_json_lines(path: Path) -> Iterator[str]:
    return (_text_of(_parsed(line, place), place) for place, line in _lines(path))


def _from_json(path: Path) -> Iterator[str]:
    values = _parsed(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(values, list):
        raise ValueError(f"{path}: a .json prompts file holds a list")  # noqa: TRY004 - a file's content
    return (_text_of(value, f"{path}: entry {number}") for number, value in enumerate(values, start=1))


_READERS: MappingProxyType[str, Callable[[Path], Iterator[str]]] = MappingProxyType(
    {".txt": _from_text, ".jsonl": _from_json_lines, ".json": _from_json}
)


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{place}: this is not JSON: {error}") from None


def _text_of(value: Any, place: str) -> str:
    candidates = [value.get("prompt"), value.get("text")] if isinstance(value, dict) else [value]
    for candidate in candidates:
        if isinstance(candidate, str):
            return candidate
    raise ValueError(f'{place}: a prompt is a string or an object with "prompt" or "text"')


# --- Prompts from a Hugging Face dataset ---


PROMPT_COLUMNS = ("text", "prompt", "question", "instruction", "input", "content")
"""Where a dataset's prompts are looked for, in this order, when nothing says which column holds them."""


def load_arguments(dataset: Dataset) -> dict[str, str | None]:
    """Return what the package `datasets` takes to find a dataset: on its hub, in a folder, or in one file."""
    path = Path(dataset.name)
    if path.is_file():
        return {"path": str(path.parent), "data_files": path.name, "name": dataset.subset}
    return {"path": dataset.name, "name": dataset.subset}


def dataset_prompts(dataset: Dataset, count: int) -> list[str]:
    """Return the first `count` texts of a dataset, or all it has if they are fewer.

    Raises:
        EngineError: when the package `datasets` is missing, or the dataset or its column cannot be found.
    """
    try:
        import datasets  # noqa: PLC0415 - an extra, needed for datasets alone
    except ImportError:
        raise EngineError(
            f"the dataset {dataset.name} needs the package datasets: pip install 'pytest-llem[datasets]'"
        ) from None
    try:
        rows = datasets.load_dataset(**load_arguments(dataset), split=dataset.split)
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise EngineError(f"the dataset {dataset.name} cannot be loaded: {reason}") from error
    column = _prompt_column(dataset.name, dataset.column, rows.column_names)
    return list(islice(column_texts(islice(rows, dataset.sample_size), column), count))


def column_texts(rows: Iterable[dict[str, Any]], column: str) -> Iterator[str]:
    """Yield a column's prompts that are not blank: strings, or what the user says first in a conversation."""
    for row in rows:
        value = row[column]
        if not isinstance(value, str | list):
            raise EngineError(f"the dataset's column {column} holds neither texts nor conversations")
        text = value if isinstance(value, str) else _first_user_turn(value)
        if text.strip():
            yield text.strip()


def _prompt_column(name: str, asked: str | None, there: Sequence[str]) -> str:
    candidates = [asked] if asked else PROMPT_COLUMNS
    for column in candidates:
        if column in there:
            return column
    raise EngineError(
        f"the dataset {name} has no column {' or '.join(candidates)}:"
        f" set dataset.column to one of {', '.join(there)}"
    )


def _first_user_turn(conversation: Sequence[dict[str, Any]]) -> str:
    for turn in conversation:
        if (turn.get("role") or turn.get("from")) in {"user", "human"}:
            return str(turn.get("content") or turn.get("value") or "")
    return ""
