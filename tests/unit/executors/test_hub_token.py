"""The Hugging Face token that containers are given is the one that huggingface_hub would take on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llem.executors.compose.hub_token import token_file

VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME")
ASK = "from huggingface_hub import get_token; print(get_token() or '')"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home with a token in every place where one may be; none is named yet."""
    for folder in (".cache/huggingface", "hub", "cache/huggingface"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "token").write_text(f"hf_of_{folder}\n")
    (tmp_path / "own").write_text("hf_of_own\n")
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"XDG_CACHE_HOME": "~/cache"},
        {"XDG_CACHE_HOME": "~/cache", "HF_HOME": "~/hub"},
        {"HF_HOME": "$HOME/hub"},
        {"HF_HOME": "~/nowhere"},
        {"HF_HOME": "~/hub", "HF_TOKEN_PATH": "~/own"},
        {"HF_TOKEN_PATH": "~/own", "HUGGING_FACE_HUB_TOKEN": "hf_old"},
        {"HUGGING_FACE_HUB_TOKEN": "hf_old", "HF_TOKEN": "hf_new"},
        {"HUGGING_FACE_HUB_TOKEN": "hf_old", "HF_TOKEN": ""},
    ],
    ids=" ".join,
)
def test_the_token_is_that_of_huggingface_hub(
    home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Whichever variable names it, a container gets the token that the library finds, or none as well."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    asked = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    found = token_file(home)
    assert (found.read_text().strip() if found else "") == asked.stdout.strip()


def test_a_token_of_the_environment_is_written_for_this_user_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that holds it can be read by nobody else."""
    monkeypatch.setenv("HF_TOKEN", "hf_new")
    found = token_file(home)
    assert found is not None
    assert found.stat().st_mode & 0o077 == 0
