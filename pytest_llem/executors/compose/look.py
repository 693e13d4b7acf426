"""A look at what is here, for `auto`: nothing is started, swept or built."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pytest_llem import __version__
from pytest_llem.executors.compose import engine, files
from pytest_llem.executors.compose.project import Project, ProjectFiles, client_of, variables
from pytest_llem.worker.protocol import PROTOCOL_VERSION


def obstacle(backends: Sequence[str], rootdir: Path) -> str | None:
    """Return why the backends cannot run in containers, in a few words, or None.

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
        environment = Path(folder) / "look.env"
        files.write_environment(
            environment, variables(files.PACKAGE, __version__, None, Path("/nonexistent"))
        )
        project = Project(ProjectFiles("llem-look", rootdir, compose, [environment]))
        images = project.images()
    absent = [name for name in backends if not project.has_image(images.get(name, ""))]
    if absent:
        return f"no image for {' and '.join(absent)}"
    stale = [n for n in backends if project.protocol_of(images[n]) not in (None, str(PROTOCOL_VERSION))]
    return f"the image of {' and '.join(stale)} is of another version: --campaign-build" if stale else None
