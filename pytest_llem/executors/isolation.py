"""Who else uses the slot while an experiment runs, seen from the host: its GPUs each second, else the CPUs.

Ours are the workers' processes. Who used a GPU before the session began is a resident, part of the baseline.
Anyone else is foreign: their work is in the energy of the device, and slows ours down.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from typing import Literal

from pytest_llem.executors.cpu_load import CpuLoad
from pytest_llem.executors.device_memory import ReadMemory
from pytest_llem.executors.gpus import GpuMemory
from pytest_llem.records import Failure, GpuProcess, Isolation
from pytest_llem.worker.protocol import Answer

LOOK_S = 1.0
"""Between two looks: who comes and goes in between is not seen."""

FOREIGN_CPU_LIMIT = 0.05
"""The share of CPU time, and so about of the package's dynamic power, that is somebody else's: as much as two
sources of one energy may differ here (`meters.window`)."""

NOT_LISTED = "the driver does not list processes"
NOT_VISIBLE = (
    "the driver names processes that cannot be seen from here, so that ours cannot be told from others"
)

Users = Mapping[int, tuple[str, ...]]
"""UUIDs of the GPUs that a process uses, by process id."""


class DeviceWatch:
    """Watches the GPUs of a slot.

    Args:
        read: returns who uses each GPU of the slot; empty where there is none.
        own_pids: returns the processes of our services.
    """

    def __init__(self, read: ReadMemory, own_pids: Callable[[], Collection[int]]) -> None:
        self._read = read
        self._own_pids = own_pids
        self._residents: dict[int, GpuProcess] = {}

    def note_residents(self) -> tuple[GpuProcess, ...]:
        """Take who uses the GPUs now, before anything of ours does, for part of the baseline."""
        self._residents = {pid: _named(pid, uuids) for pid, uuids in _users(self._read()).items()}
        return tuple(self._residents.values())

    @contextlib.contextmanager
    def watching(self) -> Generator[Look]:
        """Look at once, each second, and when the block is left; without a GPU only the CPUs are looked at."""
        look = Look(self._read, self._own_pids, self._residents)
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(LOOK_S):
                look.again()

        look.again()
        thread = threading.Thread(target=repeat, name="llem-isolation", daemon=True)
        if look.has_gpus:
            thread.start()
        try:
            yield look
        finally:
            over.set()
            if look.has_gpus:
                thread.join()
                look.again()


class Look:
    """What has been seen during one experiment."""

    def __init__(
        self,
        read: ReadMemory,
        own_pids: Callable[[], Collection[int]],
        residents: Mapping[int, GpuProcess],
    ) -> None:
        self._read = read
        self._own_pids = own_pids
        self._residents = residents
        self._devices: tuple[str, ...] = ()
        self._ours: set[int] = set()
        self._foreign: dict[int, GpuProcess] = {}
        self._invisible: set[int] = set()
        self._problem: str | None = None
        self._cpu_load = CpuLoad(own_pids)

    @property
    def has_gpus(self) -> bool:
        """Whether there is a GPU to watch."""
        return bool(self._devices)

    def enter(self, phase: str) -> None:
        """Hear that the experiment enters a phase: without a GPU, CPU load counts from the window's begin."""
        if self.has_gpus:
            return
        if phase == "warm-up":
            self._cpu_load.make_ready()
        elif phase == "window":
            self._cpu_load.begin()

    def again(self) -> None:
        """Look who uses the GPUs at this moment."""
        gpus = self._read()
        self._devices = tuple(gpu.uuid for gpu in gpus)
        if any(gpu.by_pid is None for gpu in gpus):
            self._problem = NOT_LISTED
        unknown = {pid: uuids for pid, uuids in _users(gpus).items() if not self._is_known(pid)}
        if unknown:  # seldom, so our processes are not listed at every look
            self._judge(unknown)

    def _judge(self, unknown: Users) -> None:
        import psutil  # noqa: PLC0415 - not to collect

        own_pids = self._own_pids()
        if not own_pids:
            return  # the service is gone, or its processes cannot be listed: nobody can be told from it
        self._ours.update(own_pids)
        strangers = {pid: uuids for pid, uuids in unknown.items() if pid not in self._ours}
        visible = {pid: uuids for pid, uuids in strangers.items() if psutil.pid_exists(pid)}
        self._foreign |= {pid: _named(pid, uuids) for pid, uuids in visible.items()}
        invisible = strangers.keys() - visible.keys()
        if invisible & self._invisible:  # a process that has just ended is invisible once
            self._problem = NOT_VISIBLE
        self._invisible = invisible

    def found(self) -> Isolation:
        """Return what has been seen so far."""
        return Isolation(
            devices=self._devices,
            residents=tuple(self._residents.values()),
            foreign=tuple(self._foreign.values()),
            foreign_cpu_share=self._cpu_load.share(),
            problem=self._problem,
        )

    def _is_known(self, pid: int) -> bool:
        return pid in self._residents or pid in self._ours or pid in self._foreign


def flagged(answer: Answer, found: Isolation) -> Answer:
    """Return the answer, its measurement with the word for what disturbed it."""
    word = _disturbance(found)
    if answer.measurement is None or word is None:
        return answer
    flags = (*answer.measurement.flags, word)
    return answer.model_copy(update={"measurement": answer.measurement.model_copy(update={"flags": flags})})


def refusal(found: Isolation) -> Failure | None:
    """Return the failure of an experiment that was not alone, or None: it was, as far as can be told."""
    match _disturbance(found):
        case "foreign_process":
            who = "; ".join(map(str, found.foreign))
        case "foreign_cpu_load":
            who = f"other processes took {found.foreign_cpu_share:.0%} of all CPU time"
        case _:
            return None
    return Failure(kind="not_isolated", message=f"the device was not ours alone: {who} (isolation: fail)")


def _disturbance(found: Isolation) -> Literal["foreign_process", "foreign_cpu_load"] | None:
    if found.foreign:
        return "foreign_process"
    share = found.foreign_cpu_share
    if found.devices or share is None or share <= FOREIGN_CPU_LIMIT:
        return None
    return "foreign_cpu_load"


def _users(gpus: Iterable[GpuMemory]) -> Users:
    users: dict[int, tuple[str, ...]] = {}
    for gpu in gpus:
        for pid in gpu.by_pid or ():
            users[pid] = (*users.get(pid, ()), gpu.uuid)
    return users


def _named(pid: int, devices: tuple[str, ...]) -> GpuProcess:
    import psutil  # noqa: PLC0415 - not to collect

    try:
        name = psutil.Process(pid).name()
    except psutil.Error:
        name = None
    return GpuProcess(pid=pid, name=name, devices=devices)
