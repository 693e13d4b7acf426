"""A parameter that a backend does not know is refused before anything runs, in every way it can be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.backends.base import BackendSpec, Parameters
from pytest_llem.backends.registry import registered
from pytest_llem.campaign.loader import CampaignError, load


class BellParameters(Parameters):
    """The section of a backend in a package of its own."""

    clappers: int = 1
    metal: str = "bronze"


BACKENDS = {**registered(), "bell": BackendSpec("bell", BellParameters, "clappers", "bell.engine")}

BEGIN = "campaign_name: demo\nmodel: beads\n"
GRID = f"{BEGIN}grid:\n  backends: [bell, pytorch]\n"

WAYS = {
    "a section in defaults": (
        f"{GRID}defaults:\n  bell: {{clapper: 2}}\n",
        "demo.yaml:6:10: defaults.bell.clapper: unknown key; did you mean 'clappers'?",
    ),
    "a dotted key in defaults": (
        f"{GRID}defaults: {{bell.clapper: 2}}\n",
        "demo.yaml:5:12: defaults.bell.clapper: unknown key; did you mean 'clappers'?",
    ),
    "a bare key in defaults": (
        f"{GRID}defaults: {{clapper: 2}}\n",
        "demo.yaml:5:12: defaults.clapper: unknown key; did you mean 'bell.clappers'?",
    ),
    "a dotted axis": (
        f"{GRID}  shared: {{bell.clapper: [1, 2]}}\n",
        "demo.yaml:5:12: grid.shared.bell.clapper: unknown key; did you mean 'clappers'?",
    ),
    "a bare axis": (
        f"{GRID}  shared: {{clapper: [1, 2]}}\n",
        "demo.yaml:5:12: grid.shared.clapper: unknown key; did you mean 'bell.clappers'?",
    ),
    "the other name of axes": (
        f"{GRID}  axes:\n    pytorch.batch_sizes: [1, 2]\n",
        "demo.yaml:6:5: grid.shared.pytorch.batch_sizes: unknown key; did you mean 'batch_size'?",
    ),
    "a bundle": (
        f"{GRID}  bundles: {{size: {{s: {{bell.clapper: 1}}}}}}\n",
        "demo.yaml:5:24: grid.bundles.size.s.bell.clapper: unknown key; did you mean 'clappers'?",
    ),
    "an override of a backend": (
        f"{GRID}  backend_overrides:\n    bell: {{metall: [tin, brass]}}\n",
        "demo.yaml:6:12: grid.backend_overrides.bell.metall: unknown key; did you mean 'metal'?",
    ),
    "an experiment in place": (
        f"{BEGIN}experiments:\n  - {{backend: bell, bell: {{metall: tin}}}}\n",
        "demo.yaml:4:28: experiments[0].bell.metall: unknown key; did you mean 'metal'?",
    ),
    "an experiment in a file": (
        f"{BEGIN}configs: [one.yaml]\n",
        "one.yaml:3:3: bell.metall: unknown key; did you mean 'metal'?",
    ),
    "what is set over an experiment in a file": (
        f"{BEGIN}experiments:\n  - config: whole.yaml\n    overrides: {{bell.metall: tin}}\n",
        "demo.yaml:5:17: experiments[0].overrides.bell.metall: unknown key; did you mean 'metal'?",
    ),
}
FILES = {
    "one.yaml": "backend: bell\nbell:\n  metall: tin\n",
    "whole.yaml": "backend: bell\nbell: {metal: tin}\n",
}


def refusal(folder: Path, text: str, *options: str) -> str:
    for name, content in {**FILES, "demo.yaml": text}.items():
        (folder / name).write_text(content)
    with pytest.raises(CampaignError) as caught:
        load(folder / "demo.yaml", folder, options, backends=BACKENDS)
    return str(caught.value)


@pytest.mark.parametrize(("text", "said"), WAYS.values(), ids=WAYS)
def test_an_unknown_parameter(tmp_path: Path, text: str, said: str) -> None:
    """The refusal gives file, line and column, the key by its dotted path, and the nearest one that there is."""
    assert refusal(tmp_path, text) == said


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("bell.clapper=2", "bell.clapper: bell.clapper: unknown key; did you mean 'clappers'?"),
        ("clapper=2", "clapper: clapper: unknown key; did you mean 'bell.clappers'?"),
        ("grid.shared.bell.clapper=[1,2]", "did you mean 'clappers'?"),
        ("defaults.bell.clapper=2", "did you mean 'clappers'?"),
    ],
)
def test_an_unknown_parameter_in_an_option(tmp_path: Path, option: str, said: str) -> None:
    """What `--campaign-set` names is held to the same names."""
    assert said in refusal(tmp_path, GRID, option)


def test_a_parameter_of_another_backend(tmp_path: Path) -> None:
    """A name that only another backend knows is no parameter of this one, under its own section."""
    said = refusal(tmp_path, f"{GRID}defaults:\n  bell: {{attn_implementation: eager}}\n")
    assert said.startswith("demo.yaml:6:10: defaults.bell.attn_implementation: unknown key")


def test_a_value_that_a_plug_in_does_not_take(tmp_path: Path) -> None:
    """Values are held to the types of the plug-in's own section."""
    said = refusal(tmp_path, f"{GRID}defaults:\n  bell: {{clappers: two}}\n")
    assert said == "demo.yaml:6:20: defaults.bell.clappers: expected a whole number, found the text 'two'"
