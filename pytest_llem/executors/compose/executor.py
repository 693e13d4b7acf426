"""Experiments in containers: one long-lived Compose service a backend, dispatched into by exec."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llem import __version__
from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.schema import Service
from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.compose import engine, files, owner
from pytest_llem.executors.compose.hub_token import token_file
from pytest_llem.executors.compose.project import Project, ProjectFiles, client_of, variables
from pytest_llem.executors.compose.worker import ContainerWorker
from pytest_llem.executors.services import ServiceExecutor, without_gpu
from pytest_llem.executors.work_folder import WorkFolder

if TYPE_CHECKING:
    from pytest_llem.executors.compose.engine import Engine

WITHOUT_GPUS = " knows no NVIDIA runtime: the services run without GPUs"

POWERCAP = Path("/sys/devices/virtual/powercap")


@dataclass(frozen=True, slots=True)
class ComposeSetup:
    """What a project's conftest.py may replace, as fixtures (docs/docker.md), and the options of a session.

    Attributes:
        compose_files: later ones override.
        project_name: of the Compose project; unique for each session.
        environment: variables for the Compose files.
        services: the Compose service of a backend, where it is not named like it.
        build: `--campaign-build`.
        keep: `--campaign-keep-containers`.
    """

    compose_files: Sequence[Path]
    project_name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    build: bool = False
    keep: bool = False


class ComposeExecutor(ServiceExecutor):
    """Runs each backend's worker in a container of its own Compose service.

    Args:
        setup: the project.
        backends: the specs of all backends that may be asked for.
        services: `services.<backend>` of the campaign.
        start_timeout_s: how long a worker may take to answer, the engine's imports included.
        rootdir: where relative paths of the Compose files begin.
        session_id: goes into a label of each container.
        gpus: ids of the GPUs to reserve for a backend; None leaves it to the Compose file.
        inputs: folders and files of this host that the experiments need.
        say: told of what is worth a line: leftovers swept, output of a build.
    """

    name = "compose"
    more_room = "mount a folder of a larger disk there (LLEM_MODELS, docs/docker.md)"

    def __init__(
        self,
        setup: ComposeSetup,
        backends: Mapping[str, BackendSpec],
        services: Mapping[str, Service],
        *,
        start_timeout_s: float,
        rootdir: Path,
        session_id: str,
        gpus: Callable[[str], Sequence[str] | None],
        inputs: Sequence[Path],
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._setup = setup
        self._backends = backends
        self._services = services
        self._start_timeout_s = start_timeout_s
        self._rootdir = rootdir
        self._labels = {
            owner.SESSION_LABEL: session_id,
            owner.OWNER_LABEL: owner.Owner.this_process().to_label(),
            **({owner.KEEP_LABEL: "true"} if setup.keep else {}),
        }
        self._gpus = gpus
        self._inputs = inputs
        self._say = say
        self._folder = WorkFolder()
        self._project: Project | None = None
        self._has_started = False

    def problems(self, backends: Iterable[str]) -> list[str]:
        """See `Executor`: an engine, valid files, a service for each backend, and its image unless that is built."""
        wanted = list(backends)
        try:
            found = engine.ask(client_of())
            self._project = self._make_project(wanted, found)
            images = self._project.images()
        except engine.DockerMissing as error:
            return [str(error)]
        except ExecutorError as error:
            return self._missing_services(wanted) or [str(error)]
        self._say(f"Docker engine {found.version}{'' if found.has_nvidia else WITHOUT_GPUS}")
        if lacking := [line for name in wanted for line in without_gpu(self._backends[name])]:
            return lacking
        return [] if self._setup.build else self._image_problems(wanted, images)

    def make_ready(self, backends: Iterable[str]) -> list[str]:
        """See `Executor`: what dead sessions have left is removed, and images are built if that was asked for."""
        assert self._project is not None, "problems() comes first"
        owner.tidy_up(self._say)
        if not self._setup.build:
            return []
        wanted = list(backends)
        try:
            for line in self._project.build([self._service(name) for name in wanted]):
                self._say(line)
            return self._image_problems(wanted, self._project.images())
        except ExecutorError as error:
            return [str(error)]

    def unavailable(self) -> str | None:
        """See `Executor`."""
        return engine.is_gone()

    def close(self) -> None:
        """See `Executor`."""
        if self._workers and self._setup.keep:
            for backend in self._workers:
                self.end_launch(backend)  # a service that idles holds no memory of a GPU
            self._say(f"containers kept; to remove them: docker compose -p {self._setup.project_name} down")
        elif self._project is not None and self._has_started:
            self._take_down(self._project)
        self._workers.clear()
        self._folder.remove()

    def _take_down(self, project: Project) -> None:
        for worker in self._workers.values():
            assert isinstance(worker, ContainerWorker)
            worker.let_go()
        try:
            project.down()
        except ExecutorError as error:
            self._say(f"{error}; the next session removes them")

    def check(self, backend: str) -> str | None:
        """See `Executor`; a container that someone else has started again is ours again."""
        worker = self._workers.get(backend)
        if self._project is not None and (worker is None or not worker.alive):
            with contextlib.suppress(ExecutorError):
                container = self._project.running(self._service(backend))
                if container is not None:
                    self._workers[backend] = self._hold(self._project, backend, container)
        return super().check(backend)

    def _start(self, backend: str) -> ContainerWorker:
        assert self._project is not None, "problems() comes first"
        self._has_started = True
        return self._hold(self._project, backend, self._project.up(self._service(backend)))

    def _hold(self, project: Project, backend: str, container: str) -> ContainerWorker:
        return ContainerWorker(
            project,
            backend,
            self._service(backend),
            container,
            start_timeout_s=self._start_timeout_s,
            attach=not self._setup.keep,
        )

    def _service(self, backend: str) -> str:
        return self._setup.services.get(backend, backend)

    def _make_project(self, backends: Iterable[str], found: Engine) -> Project:
        override = files.Override(self._labels, self._inputs)
        override_file = self._folder.path / "override.yml"
        services = {
            self._service(name): override.service(
                self._backends[name],
                self._services.get(name, Service()),
                self._gpus(name) if found.has_nvidia else (),
            )
            for name in backends
        }
        files.write(override_file, services)
        defaults, session = (self._folder.path / name for name in ("defaults.env", "session.env"))
        files.write_environment(defaults, self._variables())
        files.write_environment(session, self._setup.environment)
        return Project(
            ProjectFiles(
                name=self._setup.project_name,
                directory=self._rootdir,
                compose=self._setup.compose_files,
                environment=[defaults, *files.own_environment(self._rootdir), session],
                override=override_file,
            )
        )

    def _variables(self) -> Mapping[str, str]:
        return variables(files.PACKAGE, __version__, token_file(self._folder.path), POWERCAP)

    def _missing_services(self, backends: Iterable[str]) -> list[str]:
        """Return a sentence for each service that no file declares: of our override alone Compose makes no sense."""
        paths = self._setup.compose_files
        where = " or ".join(map(str, paths))
        wanted = {self._service(name): self._backends[name] for name in backends}
        declare = f"declare it in {self._rootdir / 'docker-compose.yml'}"
        return [
            f"{where} has no service {name}: {wanted[name].without_service or declare}"
            for name in files.undeclared(paths, wanted)
        ]

    def _image_problems(self, backends: Iterable[str], images: Mapping[str, str]) -> list[str]:
        """Return a sentence for each backend whose service cannot run in its image."""
        services = map(self._service, backends)
        found = (self._image_problem(service, images[service]) for service in services)
        return [problem for problem in found if problem is not None]

    def _image_problem(self, service: str, image: str) -> str | None:
        """Return why a service cannot run in its image, with the remedy, or None."""
        assert self._project is not None
        remedy = f"with --campaign-build, or `docker pull {image}` if it comes from a registry"
        if not self._project.has_image(image):
            return f"the image {image or '(unnamed)'} of the service {service} is not here: build it {remedy}"
        if self._project.is_stale(image):
            return (
                f"the image {image} of the service {service} has another version of pytest-llem:"
                f" build it anew {remedy}"
            )
        return None
