"""Damaged campaigns: whatever becomes of the text, it ends in points or in a list of problems."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damages import BASE, CAMPAIGN, CAMPAIGNS, SCALARS, damaged, write
from pytest_llem.backends.registry import registered
from pytest_llem.campaign.grid import expand
from pytest_llem.campaign.loader import CampaignError, load

MUTATIONS = 10_000
"""Damaged texts that are tried; each has one to four damages."""

LOCATED = re.compile(r"(c|base|root)\.yaml(:\d+:\d+: .|: (the file is empty$|not UTF-8 text))")
"""A file that holds no text at all has no line either."""

KEYS = [
    *(
        "execution.cycles",
        "grid",
        "grid.shared.batch_size",
        "dataset",
        "defaults",
        "model_name",
        "batch_size",
    ),
    *("experiments.0.a", "decoder.temperature", "grid.backends", "pytorch", "x", "", ".", "a..b"),
    *("io.results_dir", "services.pytorch.env", "grid.axes.x", "configs", "prompts_file", "backend"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "root.yaml").write_text("random_seed: 7\n")
    return folder


def attempt(
    folder: Path, campaign: str, base: str = BASE, overrides: tuple[str, ...] = ()
) -> CampaignError | None:
    """Load and expand a campaign and return its error, if it has one."""
    write(folder / "c.yaml", campaign)
    write(folder / "base.yaml", base)
    try:
        loaded = load(folder / "c.yaml", folder, overrides, backends=registered())
        expand(loaded, registered())
    except CampaignError as error:
        return error
    return None


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_the_whole_campaign_is_valid(folder: Path, name: str) -> None:
    """The texts that are damaged below are themselves in order."""
    assert attempt(folder, CAMPAIGNS[name]) is None


texts = st.one_of(
    damaged(CAMPAIGNS.values()).map(lambda text: (text, BASE)),
    damaged([BASE]).map(lambda text: (CAMPAIGN, text)),
)


@settings(max_examples=MUTATIONS, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts)
def test_damage_gives_problems_and_nothing_worse(folder: Path, texts: tuple[str, str]) -> None:
    """A damaged campaign has points, or ends in problems that each name file, line and column."""
    error = attempt(folder, *texts)
    if error is not None:
        assert error.problems
        assert all(LOCATED.match(str(problem)) for problem in error.problems), str(error)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KEYS), st.sampled_from(SCALARS) | st.text(max_size=5))
def test_no_option_gives_anything_worse_than_a_problem(folder: Path, key: str, value: str) -> None:
    """An option with any key and any value is taken, or is a problem that names it."""
    error = attempt(folder, CAMPAIGN, BASE, (f"{key}={value}",))
    assert error is None or str(error).strip()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_give_problems(folder: Path, content: bytes) -> None:
    """A file of arbitrary bytes is no campaign, and says so."""
    (folder / "c.yaml").write_bytes(content)
    with pytest.raises(CampaignError):
        load(folder / "c.yaml", folder, backends=registered())
