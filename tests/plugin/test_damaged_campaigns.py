"""Damaged campaigns through the real plugin: exit code 4 and what is wrong, never a traceback."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings

import pytest_llem.registration  # noqa: F401 - sessions in this process must not import the YAML reader anew
from damages import BASE, CAMPAIGNS, damaged, write

LOCATED = re.compile(r"(ERROR: )?(grid|base)\.yaml(:\d+:\d+: .|: not UTF-8 text)")
"""Bytes that are no text have no line."""


def collect(pytester: pytest.Pytester, text: str) -> pytest.RunResult:
    """Return what a session that only collects says of a campaign."""
    write(pytester.path / "grid.yaml", text)
    write(pytester.path / "base.yaml", BASE)
    write(pytester.path / "root.yaml", "random_seed: 7\n")
    return pytester.runpytest_inprocess(
        "--campaign=grid.yaml", "--collect-only", "--campaign-executor=local", "-q"
    )


@pytest.mark.parametrize(
    "damage",
    [
        "grid: [",
        "grid: {backends: [pytorch]}\n\tdefaults: {}",
        "grid: {backends: [pytorch]}\ndefaults: *nowhere",
        "grid: {backends: [pytorch], shared: {batch_size: [.nan, 1e999, -1, true, [1], {a: 1}]}}",
        "grid: " + "[" * 5000,
        "grid: {backends: [pytorch]}\n<<: 3",
        'grid: {backends: [pytorch]}\n"\\0": 1',
        "grid: {backends: [pytroch]}",
        "grid: {backends: [pytorch]}\na: &a [*a]",
        "grid: {backends: [pytorch]}\n# \udcff",
        "grid: {backends: [pytorch]}\ngroup_by: [bacth_size]",
        "grid: {backends: [pytorch], exclude: [{batch_size: 1}]}",
        "grid: {backends: [pytorch]}\nexecution: {max_experiments: 1}",
        "grid: {backends: [pytorch], shared: {attn_implementation: [flash_attention_2], device: [cpu]}}",
    ],
    ids=range(14),
)
def test_damage_is_located(pytester: pytest.Pytester, damage: str) -> None:
    """Each line that a session says of a damaged campaign names file and place."""
    done = collect(pytester, f"campaign_name: c\nmodel: gpt2\n{damage}\n")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    said = [line for line in done.errlines if line]
    assert said
    assert all(map(LOCATED.match, said)), said
    assert done.outlines == []


@settings(max_examples=150, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(damaged(CAMPAIGNS.values()))
def test_no_damage_is_an_internal_error(pytester: pytest.Pytester, text: str) -> None:
    """Whatever becomes of a campaign, a session collects it or refuses it with exit code 4."""
    done = collect(pytester, text)
    assert done.ret in (pytest.ExitCode.OK, pytest.ExitCode.USAGE_ERROR)
    said = "\n".join([*done.outlines, *done.errlines])
    assert "INTERNALERROR" not in said
    assert "Traceback" not in said
