"""The health of services between experiments: looked at, restarted, given up, used again.

A service is healthy when it runs, answers, and finds room in the memory of the slot's GPUs. What happens is told
as events (docs/formats.md): `service_started`, `health_check`, `restart`, `renewed`, `unhealthy`, `recovered`,
`memory_not_freed`, `unavailable`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_llem.campaign.schema import HealthCheck
from pytest_llem.executors.base import Executor, ExecutorError, Observer
from pytest_llem.executors.device_memory import DeviceMemory, ReadMemory
from pytest_llem.records import Failure

LOST = "it does not run any more"
TICK_S = 1.0


class HostGone(Exception):
    """Nothing can be started here, and that did not change in time; one sentence with what to do."""


class Patience(NamedTuple):
    """How long to wait for what should come by itself, in seconds.

    Attributes:
        freed_s: for the memory of an ended engine.
        host_s: for a Docker engine or host that has gone.
    """

    freed_s: float = 10.0
    host_s: float = 120.0


PATIENCE = Patience()


Note = Callable[..., None]
"""Takes an event: its name, then its facts by keyword."""


class Health:
    """Knows which services can be used, and does what can be done for the others.

    With `health_check.enabled: false` a service that is gone is started again, and nothing else is looked at.

    Args:
        executor: holds the services.
        wanted: the campaign's `health_check`.
        memory: reads the GPUs of the slot.
        observer: sees waits and starts, and is told when a service is given up or used again.
        note: takes the events.
        patience: how long to wait.

    Attributes:
        given_up: backends whose service is unhealthy and not restarted any more, with the reason.
    """

    def __init__(
        self,
        executor: Executor,
        wanted: HealthCheck,
        *,
        memory: ReadMemory,
        observer: Observer,
        note: Note,
        patience: Patience = PATIENCE,
    ) -> None:
        self._executor = executor
        self._wanted = wanted
        self._memory = DeviceMemory(memory, patience.freed_s)
        self._observer = observer
        self._note = note
        self._host_s = patience.host_s
        self._used: set[str] = set()
        self._restarts: Counter[str] = Counter()
        self._start_s: dict[str, float] = {}
        self.given_up: dict[str, str] = {}

    def admit(self, backend: str) -> Failure | None:
        """Bring the backend's service up if it is not, and return why its experiment cannot be carried out.

        A service that was lost since it was used is restarted like an unhealthy one; one that was given up is
        looked at again.

        Raises:
            HostGone: nothing can be started.
        """
        self._await_host()
        self._memory.note_first_rest()
        was_used = backend in self._used
        self._used.add(backend)
        if backend in self.given_up:
            self._reconsider(backend, "given up")
        elif backend not in self._executor.active():
            if was_used and self._wanted.enabled:
                self._repair(backend, LOST)
            elif problem := self._bring_up("service_started", backend, self._executor.service):
                return Failure(kind="engine_start", message=problem)
        why = self.given_up.get(backend)
        return None if why is None else Failure(kind="unhealthy", message=_unhealthy(backend, why))

    def check(self, reason: str) -> None:
        """Look at every service that has been used, and repair or give up those that are not healthy.

        Raises:
            HostGone: nothing can be started.
        """
        for backend in sorted(self._used):
            if backend in self.given_up:
                self._reconsider(backend, reason)
            elif problem := self._look(backend, reason):
                self._repair(backend, problem)

    def renew(self, backend: str) -> None:
        """Replace the service by a new one, unless nothing has been served by it yet.

        Raises:
            HostGone: nothing can be started.
        """
        if backend not in self._start_s:
            self._bring_up("renewed", backend, self._executor.restart)

    def end_launch(self, backend: str) -> None:
        """End the live engine and see its GPU memory freed; a service that keeps it is not healthy.

        Raises:
            HostGone: nothing can be started.
        """
        has_gpu = self._memory.is_known()
        pids = self._executor.engine_pids(backend) if has_gpu else None
        self._executor.end_launch(backend)
        held = self._memory.wait_until_freed(pids or ()) if has_gpu else None
        if held is None:
            return
        self._note("memory_not_freed", backend=backend, problem=held)
        if self._wanted.enabled and backend not in self.given_up:
            self._repair(backend, f"the GPU memory of its last engine was not freed: {held}")
        self._memory.note_rest()  # what even a restart did not free is not our engine's

    def take_start_s(self, backend: str) -> float | None:
        """Return how long the service took to come up since this was last asked; None if it was up."""
        return self._start_s.pop(backend, None)

    def _look(self, backend: str, reason: str) -> str | None:
        """Return why a service is not healthy, or None."""
        limit_pct = self._wanted.gpu_memory_threshold_pct
        problem = self._executor.check(backend) or self._memory.crowded(limit_pct, self._live_pids)
        self._note("health_check", backend=backend, reason=reason, problem=problem)
        return problem

    def _live_pids(self) -> set[int] | None:
        """Return the processes of all live engines; None if those of one are not known."""
        live: set[int] = set()
        for backend in self._executor.active():
            pids = self._executor.engine_pids(backend)
            if pids is None:
                return None
            live |= pids
        return live

    def _repair(self, backend: str, why: str) -> None:
        """Restart a service until it is healthy or has used up its restarts; then give it up."""
        problem: str | None = why
        while problem is not None:
            self._await_host()
            if not self._wanted.restart_on_failure or self._restarts[backend] >= self._wanted.max_restarts:
                self._give_up(backend, problem)
                return
            self._restarts[backend] += 1
            failed = self._bring_up("restart", backend, self._executor.restart, why=problem)
            problem = failed or self._look(backend, "restarted")

    def _give_up(self, backend: str, problem: str) -> None:
        count = self._restarts[backend]
        after = f" (after {count} restart{'s' if count > 1 else ''})" if count else ""
        self.given_up[backend] = problem + after
        self._note("unhealthy", backend=backend, problem=problem, restarts=count)
        self._observer.note(f"{_unhealthy(backend, problem + after)}; its experiments fail until it is well")

    def _reconsider(self, backend: str, reason: str) -> None:
        """Use a service again that was given up, if nothing is wrong with it any more."""
        if self._look(backend, reason) is None:
            del self.given_up[backend]
            self._note("recovered", backend=backend)
            self._observer.note(f"the service of {backend} is healthy again and is used again")

    def _bring_up(
        self, event: str, backend: str, action: Callable[[str], object], **facts: Any
    ) -> str | None:
        """Start or replace a service and note how long that took; return why it did not come up, or None."""
        self._await_host()
        self._start_s.pop(backend, None)
        self._observer.phase(f"service {backend}", "starting")
        begin_s = time.monotonic()
        problem = None
        try:
            action(backend)
        except ExecutorError as error:
            problem = str(error)
        took_s = time.monotonic() - begin_s
        self._observer.phase(f"service {backend}", "")
        if problem is None:
            self._start_s[backend] = took_s
        self._note(event, backend=backend, **facts, took_s=took_s, problem=problem)
        return problem

    def _await_host(self) -> None:
        """Wait while nothing can be started or asked, at most for our patience.

        Raises:
            HostGone: it did not come back.
        """
        first = problem = self._executor.unavailable()
        if first is None:
            return
        self._observer.note(f"{first}; waiting for it, {self._host_s:g} s at most")
        begin_s = time.monotonic()
        try:
            while problem is not None and (left_s := begin_s + self._host_s - time.monotonic()) > 0:
                self._observer.waiting(first, left_s)
                time.sleep(min(left_s, TICK_S))
                problem = self._executor.unavailable()
        finally:
            self._observer.waiting(first, 0.0)
            waited_s = time.monotonic() - begin_s
            self._note("unavailable", problem=first, waited_s=waited_s, is_back=problem is None)
        if problem is not None:
            raise HostGone(
                f"{problem}; waited {self._host_s:g} s for it. The rest is pending: go on with --lf"
            )


def _unhealthy(backend: str, why: str) -> str:
    return f"the service of {backend} is unhealthy: {why}"
