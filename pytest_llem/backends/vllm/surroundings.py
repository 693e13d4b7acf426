"""What vLLM finds around it: its environment variables and its log.

vLLM reads its variables when it needs them, so what is set here, after its import, holds. What a campaign sets in
`services.vllm.env` wins.
"""

from __future__ import annotations

import logging
import os
from types import MappingProxyType

from vllm import envs
from vllm.platforms import current_platform

SILENT = MappingProxyType(
    {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
)
"""No usage statistics leave the machine, and the launch's log is for what went wrong."""

ONE_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"
"""vLLM's variable: 0 computes in this process, 1 in a child process."""


def prepare() -> None:
    """Set up this process before an engine is built in it.

    On a CPU the engine computes in this process: vLLM would spawn two there, each with imports of its own, which
    takes seven times as long to start and is no faster (docs/backends/vllm.md). On GPUs it forks one, and that is
    left to it.
    """
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    if current_platform.is_cpu():
        os.environ.setdefault(ONE_PROCESS, "0")
    logging.getLogger("vllm").setLevel(envs.VLLM_LOGGING_LEVEL)


def engine_core() -> str:
    """Return where the engine computes: `in_process`, or in a `subprocess` of its own."""
    return "subprocess" if envs.VLLM_ENABLE_V1_MULTIPROCESSING else "in_process"
