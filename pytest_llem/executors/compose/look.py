"""A look at what is here, for `auto`: nothing is started, swept or built."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_llem import __version__
from pytest_llem.campaign.schema import Service
from pytest_llem.executors.compose import engine, files
from pytest_llem.executors.compose.project import Project, ProjectFiles, client_of, variables


def obstacle(backends: Sequence[str], rootdir: Path, services: Mapping[str, Service]) -> str | None:
    """Return why the backends cannot run in containers, in a few words, or None.

    Args:
        backends: that have experiments.
        rootdir: of the project; its own Compose files and `.env` count.
        services: `services.<backend>` of the campaign; an image that it names is the one that would run.

    Raises:
        ExecutorError: Docker cannot be used, or the Compose files are not valid.
    """
    compose = files.find(rootdir, backends)
    if unknown := files.undeclared(compose, backends):
        return f"no Compose service for {' and '.join(unknown)}"
    if shutil.which("docker") is None:
        return "no docker command"
    engine.ask(client_of())
    with tempfile.TemporaryDirectory(prefix="llem-") as folder:
        defaults = Path(folder) / "defaults.env"
        files.write_environment(defaults, variables(files.PACKAGE, __version__, None, Path("/nonexistent")))
        environment = [defaults, *files.own_environment(rootdir)]
        project = Project(ProjectFiles("llem-look", rootdir, compose, environment))
        declared = project.images()
    images = {name: services.get(name, Service()).image or declared.get(name, "") for name in backends}
    absent = [name for name in backends if not project.has_image(images[name])]
    if absent:
        return f"no image for {' and '.join(absent)}"
    stale = [name for name in backends if project.is_stale(images[name])]
    return f"the image of {' and '.join(stale)} is of another version: --campaign-build" if stale else None
