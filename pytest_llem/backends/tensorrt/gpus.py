"""The NVIDIA GPUs that an engine process sees, by NVML: it opens no CUDA context."""

from __future__ import annotations

import os
from typing import Any

import pynvml

from pytest_llem.backends.base import EngineError

NEEDED = "TensorRT-LLM needs an NVIDIA GPU"


def names() -> list[str]:
    """Return the name of each GPU that this process may use, in its order.

    Raises:
        EngineError: there is none, or the driver does not answer.
    """
    try:
        pynvml.nvmlInit()
        found = [str(pynvml.nvmlDeviceGetName(handle)) for handle in _visible()]
    except pynvml.NVMLError as error:
        raise EngineError(f"{NEEDED}: {error}") from error
    if not found:
        raise EngineError(f"{NEEDED}, and this process may use none")
    return found


def _visible() -> list[Any]:
    """Return the handles of the devices in CUDA_VISIBLE_DEVICES, which has indices or UUIDs; unset it means all."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    words = [word for part in wanted.split(",") if (word := part.strip())]
    return [
        pynvml.nvmlDeviceGetHandleByIndex(int(word))
        if word.isdigit()
        else pynvml.nvmlDeviceGetHandleByUUID(word)
        for word in words
    ]
