"""GPU memory of the slot, as health asks about it: is there room, and is that of an ended engine free again?

The host's driver names processes as the host counts them. A session that runs in a container itself knows its
engine by another number; where that hides whose memory it is, nothing is concluded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from pytest_llem.executors.gpus import GpuMemory

MIB = 1 << 20

SLACK_BYTES = 64 * MIB
"""What a driver may keep for itself after a first context; a context alone takes more, weights far more."""

POLL_S = 0.1

ReadMemory = Callable[[], Sequence[GpuMemory]]


class DeviceMemory:
    """What the slot's GPUs hold, compared with what they held at rest.

    Args:
        read: returns the memory of every GPU of the slot; empty where there is none.
        freed_within_s: how long an ended engine's memory may take to be free.
    """

    def __init__(self, read: ReadMemory, freed_within_s: float) -> None:
        self._read = read
        self._freed_within_s = freed_within_s
        self._at_rest: dict[str, int | None] | None = None

    def note_rest(self) -> None:
        """Take what is held now for what is held without an engine of ours."""
        self._at_rest = {gpu.uuid: _unexplained_bytes(gpu) for gpu in self._read()}

    def note_first_rest(self) -> None:
        """Likewise, unless that was done before."""
        if self._at_rest is None:
            self.note_rest()

    def is_known(self) -> bool:
        """Return whether the slot has a GPU that tells its memory."""
        return any(gpu.used_bytes is not None for gpu in self._read())

    def crowded(self, limit_pct: float, live_pids: Callable[[], Collection[int] | None]) -> str | None:
        """Return which GPU has more than `limit_pct` of its memory used by others than our live engine, or None.

        Args:
            limit_pct: % of the GPU's memory.
            live_pids: returns the live engine's processes, or None where they are not known; asked only when a
                GPU is that full at all.
        """
        gpus = self._read()
        full = [gpu for gpu in gpus if (gpu.foreign_pct(()) or 0) > limit_pct]
        live = live_pids() if full else ()
        if live is None:
            return None  # an engine may live, and this memory be its own
        ours = set(live)
        if ours and not any(ours & _pids(gpu) for gpu in gpus):
            return None  # an engine lives, and whose memory this is cannot be told
        for gpu in full:
            pct = gpu.foreign_pct(ours & _pids(gpu))
            if pct is not None and pct > limit_pct:
                return (
                    f"{pct:.0f} % of the memory of {gpu.uuid} is used by others than our engine"
                    f"{_largest(gpu, ours)}; health_check.gpu_memory_threshold_pct is {limit_pct:g}"
                )
        return None

    def wait_until_freed(self, pids: Collection[int]) -> str | None:
        """Wait for the memory of an engine that has ended; return what is still used after that time, or None.

        Args:
            pids: the engine's processes, taken before its end.
        """
        deadline_s = time.monotonic() + self._freed_within_s
        while (held := self._held(pids)) is not None and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        return held

    def _held(self, pids: Collection[int]) -> str | None:
        at_rest = self._at_rest or {}
        for gpu in self._read():
            left = _pids(gpu).intersection(pids)
            if left:
                return f"process {min(left)} of it still uses {gpu.uuid}"
            before_bytes, now_bytes = at_rest.get(gpu.uuid), _unexplained_bytes(gpu)
            if before_bytes is None or now_bytes is None:
                continue
            if now_bytes > before_bytes + SLACK_BYTES:
                return f"{_mib(now_bytes - before_bytes)} more of {gpu.uuid} are in use than before the first engine"
        return None


def _pids(gpu: GpuMemory) -> set[int]:
    return set(gpu.by_pid or ())


def _unexplained_bytes(gpu: GpuMemory) -> int | None:
    """Return what is used by no process of which that is known: the driver's own share, and what was left behind."""
    if gpu.used_bytes is None:
        return None
    return gpu.used_bytes - sum(used or 0 for used in (gpu.by_pid or {}).values())


def _largest(gpu: GpuMemory, ours: Collection[int]) -> str:
    """Return words for the foreign process that uses most; none where none is known."""
    foreign = {pid: used for pid, used in (gpu.by_pid or {}).items() if used and pid not in ours}
    if not foreign:
        return ""
    pid = max(foreign, key=lambda pid: foreign[pid])
    return f", {_mib(foreign[pid])} of it by process {pid}"


def _mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"
