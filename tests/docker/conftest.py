"""What tests on a real Docker engine share: the engine, the images, campaigns that run in containers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from containers import SHIPPED, Compose, has_image, missing, obstacle

HERE = Path(__file__).parent
ABACUS = HERE / "abacus" / "docker-compose.yml"
TESTS = {"LLEM_TESTS": str(HERE.parent)}


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep campaigns of tests from waiting for this machine's slots; the engine is the machine's own."""
    monkeypatch.setenv("LLEM_SLOTS_DIR", str(tmp_path_factory.mktemp("slots")))


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine with Compose v2."""
    problem = obstacle()
    if problem:
        missing(problem)


@pytest.fixture(scope="session")
def base_image(engine: None) -> str:
    """The image that the others stand on."""
    base = Compose(SHIPPED).services()["pytorch"]["build"]["args"]["BASE_IMAGE"]
    if not has_image(base):
        missing(
            f"the base image {base} cannot be pulled; .ci/base-image.sh makes one: LLEM_PYTORCH_BASE=NAME"
        )
    return str(base)


@pytest.fixture(scope="session")
def pytorch_image(base_image: str) -> str:
    """The image of the pytorch service, up to date."""
    return Compose(SHIPPED).build("pytorch")


@pytest.fixture(scope="session")
def vllm_image(base_image: str) -> str:
    """The image of the vllm service, up to date; on a plain base it has vLLM's build for CPU."""
    return Compose(SHIPPED).build("vllm")


@pytest.fixture(scope="session")
def abacus_image(base_image: str) -> str:
    """The image of the abacus service, up to date."""
    return Compose(ABACUS, variables=TESTS).build("abacus")


@pytest.fixture
def abacus_compose(abacus_image: str) -> Compose:
    """Compose for the abacus service."""
    return Compose(ABACUS, variables=TESTS)


@pytest.fixture
def docker_campaign(
    abacus_image: str,
    campaign: Callable[..., Path],
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Path]:
    """Return a function that writes a quick abacus campaign, as `campaign` does, beside the abacus' Compose file.

    The container sees the campaign's folder as its working directory, read-only. `ABACUS_MEMORY` is its limit.
    """
    shutil.copy(ABACUS, pytester.path)
    monkeypatch.setenv("LLEM_TESTS", TESTS["LLEM_TESTS"])
    return campaign
