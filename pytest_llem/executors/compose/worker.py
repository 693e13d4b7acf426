"""One service's container, and the worker's server in it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.compose.conversation import ExecConversation
from pytest_llem.executors.compose.engine import is_gone
from pytest_llem.executors.compose.project import Project
from pytest_llem.executors.services import CHECK_WITHIN_S, shake_hands
from pytest_llem.records import Failure, FailureClass
from pytest_llem.worker.protocol import REPLY, Answer, AnyRequest, Attach, Hello, Welcome

if TYPE_CHECKING:
    from python_on_whales import Container

LOG_TAIL_LINES = 20


class ContainerWorker:
    """A worker in a container.

    Args:
        project: the session's.
        backend, service: whose it is; the service is named like the backend unless the project renames it.
        container: runs, or is about to.
        start_timeout_s: how long its server may take to answer, the engine's imports included.
        attach: whether it ends with this session. Containers that are to be kept do not.

    Raises:
        ExecutorError: it does not come up.
    """

    welcome: Welcome

    def __init__(
        self,
        project: Project,
        backend: str,
        service: str,
        container: str,
        *,
        start_timeout_s: float,
        attach: bool,
    ) -> None:
        self._project = project
        self._service = service
        self.container = container
        self._leash: ExecConversation | None = None
        self._oom_is_told = False
        try:
            self._come_up(start_timeout_s, attach=attach)
            image = f"the image of {service} (--campaign-build builds it anew)"
            welcome = shake_hands(self, backend, image)
            digest = project.image_id(self.container)
        except (ConnectionError, StopIteration) as error:
            failure = self._did_not_start(error)
            self.stop()
            raise failure from error
        except BaseException:
            self.stop()
            raise
        environment = welcome.environment.model_copy(update={"image": digest})
        self.welcome = welcome.model_copy(update={"environment": environment})

    @property
    def alive(self) -> bool:
        """See `Worker`."""
        if self._leash is not None:
            return self._leash.is_open
        container = self._project.inspect(self.container)
        return container is not None and bool(container.state.running)

    def ask(self, request: AnyRequest, *, silence_s: float | None = None) -> Generator[Any]:
        """See `Worker`."""
        with contextlib.closing(ExecConversation(self.container, _line(request), silence_s)) as conversation:
            for line in conversation:
                reply = REPLY.validate_json(line)
                self._oom_is_told |= (
                    isinstance(reply, Answer) and reply.failure is not None and reply.failure.kind == "oom"
                )
                yield reply

    def post_mortem(self, error: ConnectionError) -> Failure:
        """See `Worker`."""
        if gone := is_gone():
            self.let_go()
            return Failure(kind="lost", message=gone)
        container = self._project.inspect(self.container)
        kind: FailureClass = "oom" if container is not None and self._ran_out(container) else "lost"
        message = self._ending() or str(error)
        tail = self._project.log_tail(self.container, LOG_TAIL_LINES)
        self.stop()
        return Failure(kind=kind, message=message, log_tail=tail)

    def stop(self) -> None:
        """See `Worker`."""
        self.let_go()
        with contextlib.suppress(ExecutorError):  # the engine has gone: the next session sweeps
            self._project.remove(self._service)

    def let_go(self) -> None:
        """End the server in the container; removing the container is left to the project."""
        if self._leash is not None:
            self._leash.close()

    def pids(self) -> set[int]:
        """See `Worker`."""
        return set(self._project.host_pids(self.container))

    def on_host(self, pids: Collection[int]) -> set[int]:
        """See `Worker`; they cannot be told where /proc does not show the container, as in another container."""
        all_of_it = self.pids()
        return {pid for pid in all_of_it if _innermost_pid(pid) in pids} or all_of_it

    def _come_up(self, within_s: float, *, attach: bool) -> None:
        """Wait for the server's first answer; to an `Attach` it goes on listening, and that is our leash."""
        first = Attach() if attach else Hello()
        self._leash = ExecConversation(self.container, _line(first), within_s + CHECK_WITHIN_S, within_s)
        next(iter(self._leash))
        if not attach:
            self.let_go()
            self._leash = None

    def _ending(self) -> str | None:
        """Return how the container ended; None while it runs."""
        container = self._project.inspect(self.container)
        if container is None:
            return f"the container of {self._service} is gone"
        state = container.state
        if state.running:
            return None
        if self._ran_out(container):
            return f"the container of {self._service} ran out of its memory limit"
        return f"the container of {self._service} ended with {state.exit_code}"

    def _ran_out(self, container: Container) -> bool:
        """Return whether the container ended for memory; an engine that did, and was told, leaves the same mark."""
        return bool(container.state.oom_killed) and not self._oom_is_told

    def _did_not_start(self, error: Exception) -> ExecutorError:
        how = self._ending() or str(error) or "its worker does not answer"
        tail = self._project.log_tail(self.container, LOG_TAIL_LINES)
        reason = f": {tail.splitlines()[-1]}" if tail else ""
        return ExecutorError(f"the service {self._service} did not come up: {how}{reason}")


def _line(request: AnyRequest) -> bytes:
    return request.model_dump_json().encode()


def _innermost_pid(host_pid: int) -> int | None:
    """Return a process's number in its own namespace (`NSpid`, proc(5)); None when it has ended."""
    try:
        status = Path(f"/proc/{host_pid}/status").read_text()
    except OSError:
        return None
    numbers = next((line.split() for line in status.splitlines() if line.startswith("NSpid:")), ["", "0"])
    return int(numbers[-1])
