"""The fixtures that a project's conftest.py may override to say which containers a campaign runs in (docs/docker.md).

They are there when a campaign is. Each is asked once, before the first experiment, and only where experiments run
in containers. An override sees what it overrides:

    @pytest.fixture(scope="session")
    def llem_compose_environment(llem_compose_environment):
        return {**llem_compose_environment, "LLEM_SHM_SIZE": "32gb"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llem.executors.compose.executor import ComposeSetup

if TYPE_CHECKING:
    from pytest_llem.session import CampaignSession

SESSION: pytest.StashKey[CampaignSession] = pytest.StashKey()
"""Where `config.stash` holds the campaign's session."""


@pytest.fixture(scope="session")
def llem_compose_files(pytestconfig: pytest.Config) -> Sequence[Path]:
    """Compose files, later ones override: the rootdir's if they have a service for a backend, else the packaged one."""
    from pytest_llem.executors.compose import files  # noqa: PLC0415 - brings yaml, for containers only

    return files.find(pytestconfig.rootpath, pytestconfig.stash[SESSION].needed_backends())


@pytest.fixture(scope="session")
def llem_compose_project_name(pytestconfig: pytest.Config) -> str:
    """Name of the Compose project, unique for each session: two sessions must not share containers."""
    return f"llem-{pytestconfig.stash[SESSION].info.session.id}"


@pytest.fixture(scope="session")
def llem_compose_environment() -> Mapping[str, str]:
    """Variables for the Compose files; the shell's own win over them."""
    return {}


@pytest.fixture(scope="session")
def llem_compose_services() -> Mapping[str, str]:
    """The Compose service of each backend whose service has another name than the backend."""
    return {}


def provide(
    pytestconfig: pytest.Config,
    llem_compose_files: Sequence[Path],
    llem_compose_project_name: str,
    llem_compose_environment: Mapping[str, str],
    llem_compose_services: Mapping[str, str],
) -> None:
    """Stand for a test that asks for all of them: see `setup_of`."""


def setup_of(session: pytest.Session, beside: pytest.Item) -> ComposeSetup:
    """Return what the fixtures say, as a test beside `beside` would see them.

    Fixtures belong to tests, and containers are needed before the first one. So a test that never runs is set up
    and torn down; its session fixtures live as long as the session.

    Raises:
        pytest.UsageError: one of them fails.
    """
    module = beside.getparent(pytest.Module)
    item: Any = pytest.Function.from_parent(module, name="llem-services", callobj=provide)
    try:
        session._setupstate.setup(item)  # noqa: SLF001 - there is no public way to a fixture outside of a test
    except Exception as error:
        raise pytest.UsageError(
            f"the fixtures that say which containers to use have failed: {type(error).__name__}: {error}"
        ) from error
    values = dict(item.funcargs)
    session._setupstate.teardown_exact(beside)  # noqa: SLF001
    config = values["pytestconfig"]
    return ComposeSetup(
        compose_files=[Path(path) for path in values["llem_compose_files"]],
        project_name=values["llem_compose_project_name"],
        environment=values["llem_compose_environment"],
        services=values["llem_compose_services"],
        build=config.getoption("--campaign-build"),
        keep=config.getoption("--campaign-keep-containers"),
    )
