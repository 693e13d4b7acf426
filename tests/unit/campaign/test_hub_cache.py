"""Models that a hub's client has fetched before: rules know them, hashes do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import try_to_load_from_cache

from pytest_llem.backends.pytorch.spec import SPEC as PYTORCH
from pytest_llem.campaign.grid import Expansion, expand
from pytest_llem.campaign.host import Device, Host
from pytest_llem.campaign.hub_cache import cache_folder, snapshot
from pytest_llem.campaign.identity import Files
from pytest_llem.campaign.loader import load

OLD, NEW = "a" * 40, "b" * 40
SMALL_GPU = Device(0, "GPU-a", (9, 0), 2 * 10**9)


def llama(layers: int) -> str:
    """Return a `config.json` of 5e8 parameters, and 1e8 more for each layer."""
    sizes = {"hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 32}
    sizes |= {"intermediate_size": 13_656, "vocab_size": 122_000, "num_hidden_layers": layers}
    return json.dumps({"model_type": "llama", **sizes})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with a model of two commits: `main` is the larger one, `v1` the smaller."""
    home = tmp_path / "hub" / "models--org--m"
    for commit, branch, layers in ((OLD, "v1", 1), (NEW, "main", 30)):
        folder = home / "snapshots" / commit
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(llama(layers))
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / branch).write_text(commit)
    return tmp_path / "hub"


def expanded(folder: Path, hub: Path | None, defaults: str = "{}") -> Expansion:
    path = folder / "c.yaml"
    path.write_text(
        f"campaign_name: c\nmodel: org/m\ndefaults: {defaults}\n"
        "grid: {backends: [pytorch], shared: {max_output_tokens: [8]}}\n"
        "experiments: [{model_name: other}]\n"
    )
    backends = {"pytorch": PYTORCH}
    return expand(load(path, folder, backends=backends), backends, host=Host((SMALL_GPU,), hub=hub))


@pytest.mark.parametrize("revision", [None, "main", "v1", OLD, "absent", "../../x", "a\0b", "x" * 300])
def test_a_fetched_model_is_found_where_its_client_finds_it(cache: Path, revision: str | None) -> None:
    """A branch, a tag or a commit leads to the same file as in huggingface_hub, and anything else to none."""
    is_name = revision is None or (len(revision) < 255 and "\0" not in revision)
    theirs = try_to_load_from_cache("org/m", "config.json", cache, revision) if is_name else None
    ours = snapshot(cache, "org/m", revision)
    assert (str(ours / "config.json") if ours else None) == theirs


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"XDG_CACHE_HOME": "/x"},
        {"XDG_CACHE_HOME": "/x", "HF_HOME": "~/y"},
        {"HF_HOME": "/y", "HF_HUB_CACHE": "/z"},
    ],
    ids=str,
)
def test_the_cache_is_where_its_client_has_it(environ: dict[str, str]) -> None:
    """The folder follows the same variables as that of huggingface_hub."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_", "HUGGING"))}
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | environ, capture_output=True, text=True, check=True
    )
    assert str(cache_folder(environ)) == done.stdout.strip()


@pytest.mark.parametrize("name", ["org/m", "random:org/m"])
def test_rules_know_a_model_that_was_fetched(cache: Path, tmp_path: Path, name: str) -> None:
    """What a hub's client has left on the disk says as much of a model as a folder."""
    files = Files(tmp_path, cache)
    assert files.model(name).config == json.loads(llama(30))
    assert files.model(name, "v1").config == json.loads(llama(1))
    assert files.model("other").config == {}
    assert Files(tmp_path).model(name).config == {}


def test_a_folder_wins_over_what_was_fetched(cache: Path, tmp_path: Path) -> None:
    """As it does for the engine, even if nothing in it describes the model."""
    (tmp_path / "org" / "m").mkdir(parents=True)
    assert Files(tmp_path, cache).model("org/m").config == {}


def test_a_fetched_model_that_cannot_fit_is_filtered(cache: Path, tmp_path: Path) -> None:
    """Memory is judged by the revision that is asked for: the small old one fits, the large new one does not."""
    assert len(expanded(tmp_path, cache).filtered) == 1
    assert expanded(tmp_path, cache, "{pytorch.revision: v1}").filtered == ()


def test_a_download_changes_no_hash(cache: Path, tmp_path: Path) -> None:
    """A run that has fetched its models continues with the experiments that it had."""
    revision = "{pytorch.revision: v1}"
    before, after = expanded(tmp_path, None, revision), expanded(tmp_path, cache, revision)
    assert [point.spec_hash for point in before.points] == [point.spec_hash for point in after.points]
