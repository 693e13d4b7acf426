"""A model from a hub in the shipped image of the pytorch service, which asks a hub on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import containers_of
from hub_sessions import assert_refused, write
from runs import events, results_of
from standin.hub import Hub, Repository
from standin.models import WEIGHTS, make_model

COMPOSE = "--campaign-executor=compose"

ON_THIS_NETWORK = """
services:
  pytorch:
    network_mode: host
    environment: {{HF_ENDPOINT: "{address}", HF_HUB_DISABLE_XET: "1"}}
"""

CONFTEST = """
from pathlib import Path

import pytest

@pytest.fixture(scope="session")
def llem_compose_files(llem_compose_files):
    return [*llem_compose_files, Path("on-this-network.yml").resolve()]
"""


@pytest.fixture
def models(
    pytester: pytest.Pytester, pytorch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return an empty folder of this machine in which containers keep the hub's models."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("LLEM_MODELS", str(folder))
    return folder


@pytest.fixture
def hub(pytester: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Run a hub with one model, that containers of this project find."""
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    with Hub({"org/tiny": Repository({"main": make_model(tmp_path_factory.mktemp("tiny"))})}) as running:
        (pytester.path / "on-this-network.yml").write_text(ON_THIS_NETWORK.format(address=running.address))
        pytester.makeconftest(CONFTEST)
        yield running


def test_a_container_fetches_a_model_into_the_folder_that_is_named(
    pytester: pytest.Pytester, hub: Hub, models: Path
) -> None:
    """The model is downloaded once, into `LLEM_MODELS`; its container was started once, for the first experiment."""
    write(pytester.path)
    for _ in range(2):
        pytester.runpytest_subprocess("--campaign=c.yaml", COMPOSE).assert_outcomes(passed=1)
    assert sorted(
        path.name for path in models.glob("hub/models--org--tiny/snapshots/*/*.safetensors")
    ) == sorted(WEIGHTS)
    assert len(hub.fetched()) == len(set(hub.fetched()))
    started = [event["took_s"] for event in events(pytester.path, "service_started")]
    assert [result["service_start_s"] for result in results_of(pytester.path)] == started


def test_a_model_that_does_not_fit(pytester: pytest.Pytester, hub: Hub, models: Path) -> None:
    """The refusal says what can be done about the disk of a container."""
    huge = {next(iter(WEIGHTS)): 10**18}
    hub.repositories["org/tiny"] = Repository(hub.repositories["org/tiny"].revisions, declared_bytes=huge)
    write(pytester.path)
    done = pytester.runpytest_subprocess("--campaign=c.yaml", COMPOSE)
    assert_refused(
        pytester.path,
        done,
        r"org/tiny: 1000000000\.0 GB to download, and the disk of /models/hub has [\d.]+ GB free:"
        r" free some space or mount a folder of a larger disk there \(LLEM_MODELS, docs/docker\.md\)",
    )
    assert containers_of(pytester.path) == []
