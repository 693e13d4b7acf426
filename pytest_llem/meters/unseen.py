"""A GPU that an engine can work on and no meter sees: no value, nor a total, and what would give one.

The energy of the CPU alone would pass for that of the work.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llem.meters import presence
from pytest_llem.meters.part import WHOLE_DRIVER
from pytest_llem.meters.unmetered import Unmetered

UNSEEN_CUDA = (
    "there is a GPU for CUDA that NVML does not show: a container needs the driver capability `utility`"
    " (NVIDIA_DRIVER_CAPABILITIES=compute,utility); `gpus: []` is work on the CPU"
)
UNSEEN_ROCM = (
    "there is a GPU for ROCm that zeus does not show: it needs `pip install 'pytest-llem[amd]'` beside the engine;"
    " `gpus: []` is work on the CPU"
)


def open_meter(names: Sequence[str] | None = None) -> Unmetered | None:
    """Stand in for GPUs that the other meters have not found; None where an engine has none.

    Args:
        names: of the GPUs that an engine sees; None: all, an empty list: none.
    """
    if names is not None and not names:
        return None
    if presence.can_use_cuda():
        return Unmetered(UNSEEN_CUDA, [WHOLE_DRIVER])
    if presence.can_use_rocm():
        return Unmetered(UNSEEN_ROCM, [WHOLE_DRIVER])
    return None
