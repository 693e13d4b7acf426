"""The largest memory that was held: by torch on a GPU, by the whole process on a CPU."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import torch


def forget_peak(device: torch.device) -> None:
    """Let the peak begin anew at what is held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # a read-only /proc: the peak since the process began is still a bound
        Path("/proc/self/clear_refs").write_text(
            "5", encoding="ascii"
        )  # proc(5): reset the peak resident set


def peak_bytes(device: torch.device) -> int:
    """Return the peak in bytes: tensors on a GPU, the resident set (libraries too) on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # getrusage(2): KiB on Linux
