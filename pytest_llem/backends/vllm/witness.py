"""What only the process that computes can tell: vLLM adds these methods to its workers (`worker_extension_cls`).

So the same questions have answers whether the engine computes in our process, in vLLM's own, or in several.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections import Counter
from typing import Any, Protocol

import torch

CLASS = f"{__name__}.Witness"
"""Import path for `worker_extension_cls`."""


class _Worker(Protocol):
    """The part of vLLM's worker that is looked at."""

    vllm_config: Any

    def get_model(self) -> torch.nn.Module: ...


class Witness:
    """Methods of each worker, called by `LLMEngine.collective_rpc`."""

    def llem_facts(self: _Worker) -> dict[str, Any]:
        """Return what was loaded, and what it computes with."""
        model = self.get_model()
        layers = self.vllm_config.compilation_config.static_forward_context.values()
        attention = [layer for layer in layers if hasattr(layer, "get_attn_backend")]
        cached = [layer for layer in attention if hasattr(layer, "kv_cache_torch_dtype")]
        stored = Counter[torch.dtype]()
        for weight in model.parameters():
            stored[weight.dtype] += weight.numel()
        return {
            "model_class": type(model).__name__,
            "parameter_count_by_dtype": {_name(dtype): count for dtype, count in stored.items()},
            "attention_backend": _one_or_all({layer.get_attn_backend().get_name() for layer in attention}),
            "kv_cache_torch_dtype": _one_or_all({_name(layer.kv_cache_torch_dtype) for layer in cached}),
            "num_threads": torch.get_num_threads(),
        }

    def llem_end_with(self, pid: int) -> None:
        """Let this process end when the one that drives it has, however that went: it would keep its memory.

        vLLM's other processes see it end and follow.
        """
        if pid == os.getpid():
            return
        driver = os.pidfd_open(pid)

        def watch() -> None:
            select.select([driver], [], [])  # pidfd_open(2): readable when the process is gone
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, name="llem-driver", daemon=True).start()

    def llem_settle(self) -> None:
        """Return when the device has finished all that came before this call."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def llem_forget_peak(self) -> None:
        """Let the peak of the device's memory begin anew."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def llem_peak_bytes(self) -> int | None:
        """Return the most memory that tensors held on the device; None without a GPU."""
        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _one_or_all(names: set[str]) -> str | None:
    return ", ".join(sorted(names)) or None
