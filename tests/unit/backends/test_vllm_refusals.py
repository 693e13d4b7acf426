from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from pytest_llem.backends.base import EngineError
from pytest_llem.backends.vllm.refusals import refusals

ELSEWHERE = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
"""The last line of a launch whose engine core is a process of its own."""


class Sizes(BaseModel):
    max_num_seqs: int = Field(gt=0)


class VLLMClientError(Exception):
    """Named like the base class of vLLM's own refusals of a request."""


class VLLMValidationError(VLLMClientError):
    pass


def raised_after(log: str, folder: Path) -> str:
    """Return what a process says whose engine core printed `log` and failed; its output goes to a file."""
    program = (
        "import sys\n"
        "from pytest_llem.backends.vllm.refusals import refusals\n"
        "print('KeyError: of an earlier load', flush=True)\n"
        "try:\n"
        "    with refusals('vLLM cannot load'):\n"
        f"        print({log!r}, flush=True)\n"
        f"        raise RuntimeError({ELSEWHERE.removeprefix('RuntimeError: ')!r})\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error, sep=': ', file=sys.stderr)\n"
    )
    with (folder / "launch.log").open("w") as file:
        ended = subprocess.run(
            [sys.executable, "-c", program], stdout=file, stderr=subprocess.PIPE, text=True, check=True
        )
    return ended.stderr.strip()


@pytest.mark.parametrize(
    "error",
    [ValueError("too long\n  by far"), VLLMValidationError("too long"), AssertionError("too long")],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_is_one_sentence(error: Exception) -> None:
    """What vLLM does not take is said in one line that begins with what was tried."""
    with pytest.raises(EngineError, match=r"^vLLM cannot load m: too long$"), refusals("vLLM cannot load m"):
        raise error


def test_a_pydantic_refusal_names_the_argument() -> None:
    """Of a validation error with its counts and links, the argument and the sentence remain."""
    sentence = "^vLLM cannot load m: max_num_seqs: Input should be greater than 0$"
    with pytest.raises(EngineError, match=sentence), refusals("vLLM cannot load m"):
        Sizes(max_num_seqs=0)


def test_what_is_no_refusal_passes_through() -> None:
    """A crash keeps its class, and so do our own sentences."""
    with pytest.raises(RuntimeError, match=r"^illegal memory access$"), refusals("vLLM cannot load m"):
        raise RuntimeError("illegal memory access")
    with pytest.raises(EngineError, match=r"^ours$"), refusals("vLLM cannot load m"):
        raise EngineError("ours")


PREFIX = "(EngineCore pid=7) ERROR 11-23 01:27:39 [core.py:133] "


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            f"{PREFIX}ValueError: No available memory for the cache blocks.\n{ELSEWHERE}",
            "EngineError: vLLM cannot load: No available memory for the cache blocks.",
        ),
        (
            f"{PREFIX}ValueError: first\n{PREFIX}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
            "MemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        ),
        ("nothing to see", ELSEWHERE),
        ("SystemError: bad call", ELSEWHERE),
    ],
    ids=["refused", "out of memory", "no cause", "a crash"],
)
def test_the_cause_in_another_process_is_found_in_the_log(log: str, said: str, tmp_path: Path) -> None:
    """When vLLM only says that its own process failed, the cause that it printed since the load began is told."""
    assert raised_after(log, tmp_path) == said
