"""vLLM's exceptions in one sentence, with their cause, which may only be in the log of another process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from pytest_llem.backends.base import EngineError

REFUSALS = (ValueError, NotImplementedError, ImportError, KeyError, AttributeError, AssertionError, OSError)
"""What vLLM raises for arguments, models and sizes that it does not take, beside `VLLMClientError`."""

SEE_LOG = ("Engine core initialization failed", "EngineCore encountered an issue")
"""What it raises here when the process that computes could not start, or has ended."""

_RAISED = re.compile(r"(?:^|\s)(?:\w+\.)*(\w+Error): (.+)$")
"""The last line of a traceback, after vLLM's prefix of process, level and time."""


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn vLLM's refusal into an `EngineError` that begins with `what`, and want of memory elsewhere as `deaths`.

    Raises:
        EngineError: vLLM does not take an argument, a size or the model.
        MemoryError: vLLM's own process ran out of memory.
    """
    log_begin = _log_size()
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        cause = _cause(error, log_begin)
        if cause is None:
            raise
        kind, text = cause
        if kind == "OutOfMemoryError":
            raise MemoryError(text) from error
        raise EngineError(f"{what}: {text}") from error


@contextmanager
def deaths() -> Iterator[None]:
    """Turn the end of vLLM's own process for want of memory into a `MemoryError`, as it would be in this one.

    Raises:
        MemoryError: vLLM's own process ran out of memory.
    """
    log_begin = _log_size()
    try:
        yield
    except Exception as error:
        cause = _raised_elsewhere(_log_since(log_begin)) if _is_elsewhere(error) else None
        if cause is not None and cause[0] == "OutOfMemoryError":
            raise MemoryError(cause[1]) from error
        raise


def _cause(error: Exception, log_begin: int) -> tuple[str, str] | None:
    """Return class and message of a refusal; None for anything else."""
    if _is_elsewhere(error):
        return _raised_elsewhere(_log_since(log_begin))
    if isinstance(error, REFUSALS) or "VLLMClientError" in {base.__name__ for base in type(error).__mro__}:
        return type(error).__name__, reason_of(error)
    return None


def _is_elsewhere(error: Exception) -> bool:
    return any(sentence in str(error) for sentence in SEE_LOG)


def reason_of(error: Exception) -> str:
    """Return an exception's message as one line; of a pydantic error the sentence inside it."""
    if not isinstance(error, ValidationError):
        return _first_line(str(error)) or type(error).__name__
    first = error.errors()[0]
    text = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    place = ".".join(map(str, first["loc"]))
    return _first_line(f"{place}: {text}" if place else text)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _raised_elsewhere(log: list[str]) -> tuple[str, str] | None:
    """Return class and message of the last exception in a log that tells a cause."""
    found = [match.groups() for line in log if (match := _RAISED.search(line))]
    causes = [(kind, text) for kind, text in found if not any(sentence in text for sentence in SEE_LOG)]
    known = {"OutOfMemoryError", "ValidationError", *(refusal.__name__ for refusal in REFUSALS)}
    return causes[-1] if causes and causes[-1][0] in known else None


def _log_size() -> int:
    return os.fstat(1).st_size


def _log_since(begin: int) -> list[str]:
    """Return what this process and its children have printed, where that goes to a file."""
    try:
        with open("/proc/self/fd/1", encoding="utf-8", errors="replace") as log:  # noqa: PTH123 - it has no name
            log.seek(begin)
            return log.read().splitlines()
    except OSError:  # a terminal or a pipe
        return []
