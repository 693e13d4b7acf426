"""What an executor is: where experiments run, seen from the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from pytest_llem.worker.protocol import Answer, Order, Preparation, Welcome

OnPhase = Callable[[str], None]


class ExecutorError(Exception):
    """The place where experiments should run cannot be had; one sentence with what to do."""


class PreparationFailed(ExecutorError):
    """A model or dataset cannot be had."""


class Observer(Protocol):
    """Someone who shows what goes on."""

    def waiting(self, what: str, left_s: float) -> None:
        """A wait: `left_s` seconds to go at most, 0 when it is over."""

    def phase(self, what: str, phase: str) -> None:
        """An experiment, a service or a download enters a phase; an empty one when it is over."""

    def note(self, line: str) -> None:
        """Something worth a line of its own."""


class Executor(Protocol):
    """Services that carry out orders, one backend each. Nothing runs before it is needed."""

    name: str

    more_room: str
    """What to do where the hub's models lie on a disk that is too small: the end of a sentence."""

    def problems(self, backends: Iterable[str]) -> list[str]:
        """Return why these backends cannot run here, one sentence with its remedy each.

        Nothing is changed and little is worked for it: another session may be measuring in the slot.
        """

    def make_ready(self, backends: Iterable[str]) -> list[str]:
        """Make what these backends need and can be made, in our slot; return a sentence for each that fails.

        Nothing of theirs is started. `problems` comes first and has found none.
        """

    def service(self, backend: str) -> Welcome:
        """Bring the backend's service up if it is not, and return who answers.

        Raises:
            ExecutorError: it does not come up.
        """

    def dispatch(self, backend: str, order: Order, on_phase: OnPhase) -> Answer:
        """Carry out an order; every way in which it can go wrong is a failure in the answer.

        A `KeyboardInterrupt` on the way cancels the work and is raised again.
        """

    def end_launch(self, backend: str) -> None:
        """End the backend's live engine process and return when it is gone."""

    def prepare(self, backend: str, request: Preparation, on_phase: OnPhase) -> dict[str, Any]:
        """Check or fetch a model or dataset and return its facts.

        Raises:
            PreparationFailed: it cannot be had.
        """

    def check(self, backend: str) -> str | None:
        """Return why the backend's service is not healthy (it does not run, does not answer), or None."""

    def restart(self, backend: str) -> None:
        """Replace the backend's service by a new one: a new container, a new worker process.

        Raises:
            ExecutorError: it does not come up.
        """

    def engine_pids(self, backend: str) -> set[int] | None:
        """Return the process ids, as the host counts them, of the backend's live engine.

        Returns:
            Those of all its service where the engine's cannot be told from them; None where no one answers.
        """

    def pids(self) -> set[int]:
        """Return the process ids, as the host counts them, of all services and of what they started."""

    def active(self) -> list[str]:
        """Return the backends whose services run, as far as can be told without asking them."""

    def unavailable(self) -> str | None:
        """Return why nothing can be started or asked at present (the Docker engine does not answer), or None."""

    def close(self) -> None:
        """Stop everything that was started."""
