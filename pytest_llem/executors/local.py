"""Experiments in child processes of this session: one worker server a backend, in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest_llem
from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.schema import Service
from pytest_llem.executors import interpreter
from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.services import ServiceExecutor, shake_hands, without_gpu, worker_arguments
from pytest_llem.executors.work_folder import WorkFolder
from pytest_llem.records import Failure
from pytest_llem.worker.client import Conversation
from pytest_llem.worker.protocol import REPLY, AnyRequest, Welcome

POLL_S = 0.02
STOP_GRACE_S = 5.0
LOG_TAIL_LINES = 20


class LocalExecutor(ServiceExecutor):
    """Runs each backend's worker as a child process, in that backend's own interpreter if one is set.

    Args:
        backends: the specs of all backends that may be asked for.
        services: `services.<backend>` of the campaign: interpreter and environment.
        start_timeout_s: how long a worker may take to answer, the engine's imports included.
        rootdir: where a relative `services.<backend>.python` begins.
        visible: what CUDA_VISIBLE_DEVICES is to be for a backend; None leaves it alone.
    """

    name = "local"
    more_room = "set HF_HOME to a larger disk"

    def __init__(
        self,
        backends: Mapping[str, BackendSpec],
        services: Mapping[str, Service],
        start_timeout_s: float,
        rootdir: Path,
        visible: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        super().__init__()
        self._backends = backends
        self._services = services
        self._start_timeout_s = start_timeout_s
        self._rootdir = rootdir
        self._visible = visible
        self._folder = WorkFolder()

    def problems(self, backends: Iterable[str]) -> list[str]:
        """See `Executor`: an engine's libraries must be in the interpreter that runs it."""
        found = []
        for name in backends:
            service, spec = self._services.get(name, Service()), self._backends[name]
            found += without_gpu(spec)
            if (problem := interpreter.problem(spec, service, self._rootdir)) is not None:
                found.append(problem)
        return found

    def close(self) -> None:
        """See `Executor`."""
        super().close()
        self._folder.remove()

    def _start(self, backend: str) -> _Worker:
        service = self._services.get(backend, Service())
        folder = Path(tempfile.mkdtemp(prefix=f"{backend[:12]}-", dir=self._folder.path))
        worker = _Worker(self._backends[backend], service, folder, self._rootdir, self._visible(backend))
        worker.wait_until_ready(self._start_timeout_s)
        return worker


class _Worker:
    """One worker process."""

    welcome: Welcome

    def __init__(
        self, spec: BackendSpec, service: Service, folder: Path, rootdir: Path, visible: str | None
    ) -> None:
        self._spec = spec
        self._socket = folder / "s"
        self._stderr = folder / "stderr"
        self._python = interpreter.path_of(service.python, rootdir)
        command = [self._python, "-m", "pytest_llem.worker", "--socket", str(self._socket)]
        command += worker_arguments(spec)
        # The meters count GPUs as the driver does; the engine must mean the same ones by its numbers.
        environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **os.environ}
        if visible is not None:
            environment["CUDA_VISIBLE_DEVICES"] = visible
        environment |= service.env
        if service.python:
            environment["PYTHONPATH"] = str(_package_alone(folder))
        try:
            with self._stderr.open("wb") as stderr:
                self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                    command,
                    stdin=subprocess.PIPE,  # its end of file tells the worker that this session is gone
                    stdout=stderr,
                    stderr=stderr,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for pytest, which then tells the worker
                )
        except OSError as error:
            raise ExecutorError(
                f"services.{spec.name}.python: {self._python} does not start: {error}"
            ) from error

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait for the socket and shake hands."""
        deadline_s = time.monotonic() + timeout_s
        try:
            while not self._socket.exists():
                if not self.alive:
                    raise self._did_not_start("ended before it answered")
                if time.monotonic() > deadline_s:
                    raise self._did_not_start(f"did not answer within {timeout_s:g} s")
                time.sleep(POLL_S)
            left_s = max(POLL_S, deadline_s - time.monotonic())
            self.welcome = shake_hands(self, self._spec.name, self._python, silence_s=left_s)
        except ConnectionError as error:
            self.stop()
            raise self._did_not_start(str(error)) from error
        except BaseException:
            self.stop()
            raise

    def ask(self, request: AnyRequest, *, silence_s: float | None = None) -> Generator[Any]:
        """See `Worker`."""
        with Conversation(str(self._socket), request.model_dump_json().encode(), silence_s) as conversation:
            for line in conversation:
                yield REPLY.validate_json(line)

    def pids(self) -> set[int]:
        """See `Worker`."""
        import psutil  # noqa: PLC0415 - not to collect

        try:
            server = psutil.Process(self._process.pid)
            return {server.pid, *(process.pid for process in server.children(recursive=True))}
        except psutil.NoSuchProcess:
            return set()

    def on_host(self, pids: Collection[int]) -> set[int]:
        """See `Worker`: it counts as we do."""
        return set(pids)

    def post_mortem(self, error: ConnectionError) -> Failure:
        """See `Worker`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_GRACE_S)
        code = self._process.returncode
        how = str(error) if code is None else f"the worker process ended with {code}"
        self.stop()
        return Failure(kind="lost", message=how, log_tail=self._log_tail())

    def stop(self) -> None:
        """End the worker and all that it started; the process group leaves nothing behind."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _did_not_start(self, how: str) -> ExecutorError:
        tail = self._log_tail()
        reason = f": {tail.splitlines()[-1]}" if tail else ""
        return ExecutorError(f"the worker of {self._spec.name} ({self._python}) {how}{reason}")

    def _log_tail(self) -> str:
        lines = self._stderr.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def _package_alone(folder: Path) -> Path:
    """Return a folder that holds this package and nothing else of our interpreter's, for another one to import."""
    library = folder / "lib"
    library.mkdir()
    (library / "pytest_llem").symlink_to(Path(pytest_llem.__file__).parent)
    return library
