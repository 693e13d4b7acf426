"""What tests of real engines share: a hub with two small models, and an interpreter that has vLLM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import missing
from standin.hub import Hub, Repository
from standin.models import make_model

UNWANTED = ("README.md", ".gitattributes", "pytorch_model.bin", "original/consolidated.00.pth")
"""What lies beside the weights in many repositories: the same weights again, and nothing to load."""

HUB_VARIABLES = (
    "HF_TOKEN",
    "HF_HUB_OFFLINE",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "HF_DATASETS_OFFLINE",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "TRANSFORMERS_OFFLINE",
)


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """Return the interpreter of vLLM's own environment: `LLEM_VLLM_PYTHON`, or what `scripts/setup-vllm.sh` makes."""
    default = Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"
    python = Path(os.environ.get("LLEM_VLLM_PYTHON", default))
    if not python.exists():
        missing(f"there is no {python}: bash scripts/setup-vllm.sh makes the environment of vLLM")
    return python


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository as they are: a sharded model, its tokenizer, and much that is not needed."""
    folder = make_model(tmp_path_factory.mktemp("tiny"))
    for name in UNWANTED:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not needed")
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a smaller model in one file."""
    return make_model(tmp_path_factory.mktemp("small"), layers=1, max_shard_size="1MB")


@pytest.fixture
def hub(
    pytester: pytest.Pytester, tiny: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """Run a hub with two models; child processes find it and begin with an empty cache."""
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    repositories = {"org/tiny": Repository({"main": tiny}), "org/small": Repository({"main": small})}
    for name in HUB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with Hub(repositories) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield running
