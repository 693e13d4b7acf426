"""Is a GPU here that an engine can work on? Asked without the libraries that measure GPUs: they may be what is missing.

It imports little, for the process that engines are forked from imports it too.
"""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import os

CUDA_FILES = ("/dev/nvidia[0-9]*", "/dev/dxg")
"""What CUDA works through; the last is that of WSL 2. A container that is given one GPU keeps its number: `nvidia3`."""

ROCM_FILE = "/dev/kfd"

ROCM_LIBRARY = "lib/libtorch_hip.so"
"""What a build of torch for ROCm has, and no other one."""


def cuda_driver() -> ctypes.CDLL | None:
    """Return the library of the CUDA driver, not yet initialised; None where there is none."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def has_cuda_files() -> bool:
    """Whether there is a file that CUDA works through."""
    return any(glob.glob(pattern) for pattern in CUDA_FILES)  # noqa: PTH207 - the parent has no pathlib


def can_use_cuda() -> bool:
    """Whether an engine can work on an NVIDIA GPU."""
    return has_cuda_files() and cuda_driver() is not None


def can_use_rocm() -> bool:
    """Whether an engine can work on an AMD GPU: many processors have a small one, which few builds of torch use."""
    if not os.path.exists(ROCM_FILE):  # noqa: PTH110
        return False
    torch = importlib.util.find_spec("torch")
    folders = (torch and torch.submodule_search_locations) or ()
    return any(os.path.exists(os.path.join(folder, ROCM_LIBRARY)) for folder in folders)  # noqa: PTH110, PTH118
