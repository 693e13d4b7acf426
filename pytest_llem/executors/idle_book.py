"""The idle powers that are known so far: measured once, they go with every later order."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_llem.executors.base import Executor, OnPhase
from pytest_llem.records import Idle
from pytest_llem.worker.protocol import Answer, Order


class IdleBook:
    """The newest idle power of each kind, machine and set of devices; a loaded one is its backend's."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], Idle] = {}

    def learn(self, backend: str, found: Iterable[Idle]) -> None:
        """Take in what was measured beside a backend."""
        for idle in found:
            owner = backend if idle.kind == "loaded" else ""
            key = (idle.kind, owner, idle.boot, *sorted(idle.power_w))
            known = self._found.get(key)
            if known is None or known.measured_at <= idle.measured_at:
                self._found[key] = idle

    def known(self, backend: str) -> tuple[Idle, ...]:
        """Return what may hold for a backend."""
        return tuple(idle for (_, owner, *_), idle in self._found.items() if owner in ("", backend))

    def dispatch(self, executor: Executor, backend: str, order: Order, on_phase: OnPhase) -> Answer:
        """Have an order carried out with what is known, and learn from the answer; see `Executor.dispatch`."""
        order = order.model_copy(update={"idle": self.known(backend)})
        answer = executor.dispatch(backend, order, on_phase)
        self.learn(backend, answer.idle)
        return answer
