from __future__ import annotations

import gc
import json
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import model_validator

from pytest_llem.architectures import Architecture, architecture
from pytest_llem.backends.base import BackendSpec, Parameters
from pytest_llem.backends.pytorch.spec import SPEC as PYTORCH
from pytest_llem.backends.tensorrt.spec import SPEC as TENSORRT
from pytest_llem.backends.vllm.spec import SPEC as VLLM
from pytest_llem.campaign import identity
from pytest_llem.campaign.document import Mark, Node
from pytest_llem.campaign.grid import Expansion, Point, expand, needed_backends
from pytest_llem.campaign.host import Device, Host
from pytest_llem.campaign.loader import CampaignError, LoadedCampaign, load
from pytest_llem.campaign.schema import Campaign, Grid

Expand = Callable[..., Expansion]


class Strict(Parameters):
    """A plug-in's section with a rule of its own."""

    batch: int = 1
    width: int = 1

    @model_validator(mode="after")
    def _wide_enough(self) -> Strict:
        if self.batch > self.width:
            raise ValueError("batch is larger than width")
        return self


STRICT = BackendSpec(name="strict", parameters=Strict, batch_parameter="batch", engine="strict.engine")
ALL = {spec.name: replace(spec, engine="some.engine") for spec in (PYTORCH, VLLM, TENSORRT, STRICT)}
TODAY = {"pytorch": PYTORCH} | {spec.name: replace(spec, engine=None) for spec in (VLLM, TENSORRT)}
"""Two backends whose engines are still to come."""


LLAMA = Path(__file__).parents[3] / "campaigns" / "models" / "llama-3b"
"""3.2e9 parameters, and 57,344 numbers in the KV cache for each token."""


@pytest.fixture
def expanded(tmp_path: Path) -> Expand:
    """Return a function that expands a campaign's YAML text; by default every backend has an engine."""

    def expanded(text: str, backends: dict[str, BackendSpec] = ALL, **files: str) -> Expansion:
        for name, content in files.items():
            (tmp_path / f"{name}.yaml").write_text(textwrap.dedent(content))
        path = tmp_path / "campaign.yaml"
        path.write_text("campaign_name: c\n" + textwrap.dedent(text))
        return expand(load(path, tmp_path, backends=backends), backends)

    return expanded


def labels(expansion: Expansion) -> list[str]:
    return [point.label for point in expansion.points]


def values(expansion: Expansion, name: str) -> list[Any]:
    """Return a field of each configuration, or one of its parameters."""
    configurations = [point.configuration for point in expansion.points]
    return [c.parameters[name] if name in c.parameters else getattr(c, name) for c in configurations]


# --- Order and precedence ---


@pytest.mark.key("grid.backends", "grid.models", "grid.shared", "grid.backend_overrides")
def test_points_run_from_backend_over_model_and_axes_to_overrides(expanded: Expand) -> None:
    """The first axis is the slowest, in the order of the file."""
    found = expanded(
        """
        grid:
          backends: [vllm, pytorch]
          models: [b, a]
          shared:
            fp_precision: [float16, bfloat16]
          backend_overrides:
            pytorch: {num_beams: [2, 1]}
        """
    )
    assert labels(found) == [
        "vllm b fp_precision=float16",
        "vllm b fp_precision=bfloat16",
        "vllm a fp_precision=float16",
        "vllm a fp_precision=bfloat16",
        "pytorch b fp_precision=float16 num_beams=2",
        "pytorch b fp_precision=float16 num_beams=1",
        "pytorch b fp_precision=bfloat16 num_beams=2",
        "pytorch b fp_precision=bfloat16 num_beams=1",
        "pytorch a fp_precision=float16 num_beams=2",
        "pytorch a fp_precision=float16 num_beams=1",
        "pytorch a fp_precision=bfloat16 num_beams=2",
        "pytorch a fp_precision=bfloat16 num_beams=1",
    ]


@pytest.mark.key("model", "num_samples", "defaults")
def test_defaults_win_over_short_forms(expanded: Expand) -> None:
    """`model` and `num_samples` are the weakest of all layers."""
    grid = "\ngrid: {backends: [pytorch]}\n"
    short = "model: short\nnum_samples: 50\n"
    assert values(expanded(short + grid), "model_name") == ["short"]
    assert values(expanded(short + grid), "num_input_prompts") == [50]
    found = expanded(short + "defaults: {model_name: default, num_input_prompts: 60}" + grid)
    assert values(found, "model_name") == ["default"]
    assert values(found, "num_input_prompts") == [60]


@pytest.mark.key("grid.bundles")
def test_bundle_loses_to_shared_axis_and_that_to_override(expanded: Expand) -> None:
    """What is said for one backend wins over what is said for all, and an axis over a bundle."""
    found = expanded(
        """
        model: m
        defaults: {max_input_tokens: 1, max_output_tokens: 1, random_seed: 1}
        grid:
          backends: [pytorch]
          bundles:
            size:
              small: {max_input_tokens: 2, max_output_tokens: 2, random_seed: 2, num_input_prompts: 20}
          shared:
            max_output_tokens: [3]
            random_seed: [3]
          backend_overrides:
            pytorch: {random_seed: 4}
        """
    )
    assert values(found, "max_input_tokens") == [2]
    assert values(found, "max_output_tokens") == [3]
    assert values(found, "random_seed") == [4]


def test_override_takes_the_place_of_a_shared_axis(expanded: Expand) -> None:
    """A backend with a value of its own is not multiplied by the shared values."""
    found = expanded(
        """
        model: m
        num_samples: 10000
        grid:
          backends: [pytorch, vllm]
          shared: {batch_size: [1, 8]}
          backend_overrides: {vllm: {max_num_seqs: 64}}
        """
    )
    assert labels(found) == ["pytorch batch_size=1", "pytorch batch_size=8", "vllm batch_size=64"]
    assert found.merged == 0


# --- Axes ---


def test_shared_batch_size_is_the_batch_parameter_of_each_backend(expanded: Expand) -> None:
    """One axis compares engines although each has a name of its own for the batch limit."""
    found = expanded(
        """
        model: m
        grid:
          backends: [pytorch, vllm, tensorrt]
          shared: {batch_size: [4]}
        """
    )
    parameters = [point.configuration.parameters for point in found.points]
    assert [parameters[0]["batch_size"], parameters[1]["max_num_seqs"], parameters[2]["max_batch_size"]] == [
        4
    ] * 3


def test_axis_of_one_backend_does_not_exist_for_the_others(expanded: Expand) -> None:
    """The points of other backends are not multiplied by a value that they do not see."""
    found = expanded(
        """
        model: m
        grid:
          backends: [pytorch, vllm]
          shared: {pytorch.num_beams: [1, 2]}
        """
    )
    assert labels(found) == ["pytorch num_beams=1", "pytorch num_beams=2", "vllm"]


def test_bundle_sets_several_keys_and_is_one_axis(expanded: Expand) -> None:
    """A label stands for all that it sets, for the backends that it sets something for."""
    found = expanded(
        """
        model: m
        grid:
          backends: [pytorch, vllm]
          bundles:
            quant:
              none: {}
              nf4: {pytorch: {load_in_4bit: true, bnb_4bit_quant_type: nf4}}
        """
    )
    assert labels(found) == ["pytorch quant=none", "pytorch quant=nf4", "vllm"]
    assert [p.axes.get("quant") for p in found.points] == ["none", "nf4", None]
    assert found.points[1].configuration.parameters["load_in_4bit"]


def test_model_that_a_bundle_or_an_axis_sets_is_the_model_of_the_point(expanded: Expand) -> None:
    """Tables show the model that is measured, wherever it was chosen."""
    bundled = expanded(
        """
        grid:
          backends: [pytorch]
          bundles: {size: {small: {model_name: org/a}, large: {model_name: org/b}}}
          exclude: [{model: org/b}]
        """
    )
    assert [(p.label, p.axes["model"]) for p in bundled.points] == [("pytorch a size=small", "org/a")]
    shared = expanded("grid: {backends: [pytorch], shared: {model_name: [org/a, org/b]}}")
    assert [(p.label, p.axes["model"]) for p in shared.points] == [
        ("pytorch a", "org/a"),
        ("pytorch b", "org/b"),
    ]


@pytest.mark.parametrize(("sizes", "expected"), [("[1, 2]", [[1, 2]]), ("[[1, 2], [4]]", [[1, 2], [4]])])
def test_list_is_one_value_of_a_parameter_that_takes_a_list(
    expanded: Expand, sizes: str, expected: list[list[int]]
) -> None:
    """An override with a flat list fixes such a parameter; lists in a list are an axis."""
    found = expanded(
        f"""
        model: m
        grid:
          backends: [vllm]
          backend_overrides: {{vllm: {{cudagraph_capture_sizes: {sizes}}}}}
        """
    )
    assert values(found, "cudagraph_capture_sizes") == expected


@pytest.mark.key("grid.exclude")
def test_exclude_drops_the_points_that_match_all_of_an_entry(expanded: Expand) -> None:
    """Backend, model, bundle and axis can be named, with one value or several."""
    found = expanded(
        """
        grid:
          backends: [pytorch, vllm]
          models: [x/a, x/b]
          shared: {batch_size: [1, 2, 4], decoder.temperature: [0.5, 1]}
          exclude:
            - {backend: vllm, model: x/a}
            - {batch_size: [2, 4], temperature: 0.5}
        """
    )
    assert found.reasons()["filtered"] == {"excluded by grid.exclude[0]": 6, "excluded by grid.exclude[1]": 8}
    assert (found.generated, len(found.filtered), len(found.points)) == (24, 12, 12)
    assert {(p.axes["backend"], p.axes["model"]) for p in found.points} == {
        ("pytorch", "x/a"),
        ("pytorch", "x/b"),
        ("vllm", "x/b"),
    }


def test_exclude_that_matches_nothing_is_noted(expanded: Expand) -> None:
    """A slip in an exclusion is heard of, because it would otherwise run what should not run."""
    found = expanded(
        """
        model: m
        grid:
          backends: [pytorch]
          shared: {batch_size: [1, 2], num_beams: [1, 2]}
          exclude: [{batch_size: 2, num_beams: 2}, {batch_size: 4}]
        """
    )
    assert len(found.points) == 3
    assert found.notes == ("grid.exclude[1] matches no point",)


def test_exclude_must_name_an_axis(expanded: Expand) -> None:
    """A key that the grid does not vary cannot drop a point."""
    grid = (
        "grid: {backends: [pytorch], shared: {max_input_tokens: [1, 2]}, exclude: [{max_output_tokens: 2}]}"
    )
    with pytest.raises(CampaignError, match=r"grid.exclude\[0\]: 'max_output_tokens' is no axis of the grid"):
        expanded(f"model: m\n{grid}")


# --- Prompts ---


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("dataset: {sample_size: 20}", 20),
        ("dataset: {sample_size: 20}, num_input_prompts: 10", 10),
        ("max_input_tokens: 8", 50),
    ],
)
@pytest.mark.key("dataset", "defaults.dataset.sample_size")
def test_sample_size_of_a_data_set_is_the_number_of_prompts(
    expanded: Expand, text: str, prompts: int
) -> None:
    """A size wins over a number of prompts from a weaker layer, and loses to one beside it."""
    found = expanded(f"model: m\ndataset: some/set\nnum_samples: 50\nexperiments: [{{{text}}}]")
    assert values(found, "num_input_prompts") == [prompts]
    assert values(found, "dataset")[0].name == "some/set"


# --- Explicit experiments ---


@pytest.mark.key("experiments.config", "experiments.overrides", "experiments.inline", "configs")
def test_explicit_experiments_come_before_the_grid(expanded: Expand) -> None:
    """`configs`, `experiments` and grid are one campaign, in this order."""
    found = expanded(
        """
        model: m
        configs: [one.yaml]
        experiments:
          - {config: one.yaml, overrides: {config_name: two, pytorch: {batch_size: 2}}}
          - {config_name: three, pytorch: {batch_size: 3}}
        grid: {backends: [pytorch], shared: {batch_size: [4]}}
        """,
        one="config_name: one\nmodel_name: file\npytorch: {batch_size: 5}\n",
    )
    assert values(found, "batch_size") == [5, 2, 3, 4]
    assert values(found, "model_name") == ["file", "file", "m", "m"]
    assert labels(found)[:3] == ["pytorch one", "pytorch two", "pytorch three"]


def test_experiment_runs_on_its_backend_or_on_pytorch(expanded: Expand) -> None:
    """An experiment that names no backend means what it meant in llenergymeasure v1."""
    found = expanded("model: m\nexperiments: [{max_output_tokens: 1}, {backend: vllm, max_output_tokens: 1}]")
    assert values(found, "backend") == ["pytorch", "vllm"]


def test_unnamed_experiments_are_told_apart_by_what_differs(expanded: Expand) -> None:
    """A key that all share is in no label; one that some leave at its default is shown where it is set."""
    found = expanded(
        """
        model: m
        experiments:
          - {max_output_tokens: 8, pytorch: {num_beams: 2}}
          - {max_output_tokens: 8}
        """
    )
    assert labels(found) == ["pytorch num_beams=2", "pytorch"]


def test_experiments_that_share_a_name_also_show_their_axes(expanded: Expand) -> None:
    """One file with two overrides gives two labels, although both have the file's name."""
    found = expanded(
        """
        model: m
        experiments:
          - {config: base.yaml, overrides: {pytorch: {batch_size: 1}}}
          - {config: base.yaml, overrides: {pytorch: {batch_size: 2}}}
        """,
        base="config_name: base\n",
    )
    assert labels(found) == ["pytorch base batch_size=1", "pytorch base batch_size=2"]


def test_section_of_another_backend_is_filtered_in_an_experiment(expanded: Expand) -> None:
    """An experiment that tunes an engine on which it does not run is a slip; defaults may serve several."""
    found = expanded(
        """
        model: m
        defaults: {vllm: {enforce_eager: true}}
        experiments:
          - {config_name: fine, backend: pytorch}
          - {config_name: slip, backend: pytorch, vllm: {max_num_seqs: 4}}
        """
    )
    assert labels(found) == ["pytorch fine"]
    assert [p.reasons for p in found.filtered] == [
        ("sets parameters of another backend than its own, pytorch",)
    ]


# --- Equal points ---


def test_equal_unnamed_points_are_merged_and_counted(expanded: Expand) -> None:
    """The same configuration is not measured twice in a cycle by accident."""
    found = expanded("model: m\ngrid: {backends: [pytorch], shared: {batch_size: [1, 2, 1]}}")
    assert [p.merged for p in found.points] == [2, 1]
    assert (found.generated, found.merged) == (3, 1)


@pytest.mark.key("defaults.config_name")
def test_equal_points_with_names_of_their_own_are_kept(expanded: Expand) -> None:
    """Two names for one configuration are an A/A comparison; the same name twice is one point."""
    found = expanded("model: m\nexperiments: [{config_name: a}, {config_name: b}, {config_name: a}]")
    assert [(p.axes["config_name"], p.merged) for p in found.points] == [("a", 2), ("b", 1)]
    assert len({p.spec_hash for p in found.points}) == 2
    assert len({p.engine_key for p in found.points}) == 1


def test_adding_a_twin_reruns_nothing(expanded: Expand) -> None:
    """The first arm of an A/A comparison keeps the hash that it had alone."""
    alone = expanded("model: m\nexperiments: [{config_name: a}]")
    both = expanded("model: m\nexperiments: [{config_name: a}, {config_name: b}]")
    assert both.points[0].spec_hash == alone.points[0].spec_hash


@pytest.mark.parametrize("more", ["models: [m, n]", "shared: {batch_size: [1, 2], max_output_tokens: [128]}"])
def test_widening_a_grid_keeps_the_identity_of_its_points(expanded: Expand, more: str) -> None:
    """Ids may change with the axes, hashes do not: what is measured stays measured."""
    usual = "model: m\ngrid: {backends: [pytorch], "
    before = expanded(usual + "shared: {batch_size: [1]}}")
    after = expanded(usual + more + "}")
    assert before.points[0].spec_hash in {p.spec_hash for p in after.points}


# --- Judgement ---


def test_filtered_points_do_not_run_and_warned_ones_do(expanded: Expand) -> None:
    """Each verdict is counted by its reason."""
    found = expanded(
        """
        model: m
        num_samples: 20
        grid: {backends: [pytorch, vllm], shared: {batch_size: [2, 4]}}
        """,
        backends=TODAY,
    )
    assert [(p.label, p.verdict) for p in found.points] == [
        ("pytorch batch_size=2", "valid"),
        ("pytorch batch_size=4", "warned"),
    ]
    assert [sum(counted.values()) for counted in found.reasons().values()] == [2, 1]
    assert found.reasons()["filtered"] == {"the vllm backend comes with a later version": 2}


def test_combination_that_a_backend_itself_refuses_is_filtered(expanded: Expand) -> None:
    """A plug-in may have rules between its parameters; its words are the reason."""
    found = expanded("model: m\ngrid: {backends: [strict], shared: {width: [1, 2], batch_size: [1, 2]}}")
    assert len(found.points) == 3
    assert found.reasons()["filtered"] == {"strict: batch is larger than width": 1}


def test_campaign_of_which_nothing_is_left_is_refused_with_the_reasons(expanded: Expand) -> None:
    """The author hears how many points fell to what."""
    text = "grid: {backends: [vllm, tensorrt], models: [m], shared: {batch_size: [1, 2]}}"
    with pytest.raises(CampaignError) as refused:
        expanded(text, backends=TODAY)
    assert str(refused.value).endswith(
        "none of 4 points can run: the vllm backend comes with a later version (2);"
        " the tensorrt backend comes with a later version (2)"
    )


def test_memory_that_fits_nowhere_is_refused_with_its_figures(tmp_path: Path) -> None:
    """Where no point is left the author hears what the one that needs most would take, and what there is."""
    path = tmp_path / "campaign.yaml"
    path.write_text(
        f"campaign_name: c\nmodel: {json.dumps(str(LLAMA))}\n"
        "grid: {backends: [pytorch], shared: {max_output_tokens: [128, 1536], batch_size: [8]}}\n"
    )
    small = Host((Device(0, "GPU-a", (9, 0), 6 * 10**9),))
    with pytest.raises(CampaignError) as refused:
        expand(load(path, tmp_path, backends=ALL), ALL, host=small)
    assert str(refused.value).endswith(
        "none of 2 points can run: weights and KV cache do not fit into the GPUs' memory (2);"
        " at most 8.3 GB (weights 6.4, KV cache 1.9) into 6.0 GB"
    )


def test_a_model_is_counted_once_for_all_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many points the rules about memory look at, what a `config.json` describes is worked out once."""
    counted: list[Mapping[str, Any]] = []

    def counting(config: Mapping[str, Any]) -> Architecture:
        counted.append(config)
        return architecture(config)

    monkeypatch.setattr(identity, "architecture", counting)
    path = tmp_path / "campaign.yaml"
    path.write_text(
        f"campaign_name: c\nmodel: {json.dumps(str(LLAMA))}\n"
        "grid: {backends: [pytorch, vllm], shared: {max_output_tokens: [128, 256], batch_size: [1, 8]}}\n"
    )
    roomy = Host((Device(0, "GPU-a", (9, 0), 80 * 10**9),))
    assert len(expand(load(path, tmp_path, backends=ALL), ALL, host=roomy).points) == 8
    assert len(counted) == 1


@pytest.mark.key("execution.max_experiments")
def test_grid_that_is_too_large_is_refused_before_it_is_built(expanded: Expand) -> None:
    """A grid of 10^20 points, which nothing could build, is refused with its number of experiments."""
    names = ["random_seed", "batch_size", "num_input_prompts", "max_input_tokens", "max_output_tokens"]
    names += ["num_beams", "num_threads", "no_repeat_ngram_size", "warmup.min_prompts", "warmup.max_prompts"]
    axes = ", ".join(f"{name}: {list(range(1, 101))}" for name in names)
    with pytest.raises(CampaignError, match="500,000,000,000,000,000,000 experiments, more than execution"):
        expanded(f"model: m\ngrid: {{backends: [pytorch], shared: {{{axes}}}}}")


def test_limit_counts_experiments_not_points(expanded: Expand) -> None:
    """Cycles count: what just fits with two cycles is refused with three."""
    grid = "grid: {backends: [pytorch], models: [a, b]}\n"
    assert len(expanded(grid + "execution: {cycles: 2, max_experiments: 4}").points) == 2
    with pytest.raises(CampaignError, match="2 points x 3 cycles are 6 experiments"):
        expanded(grid + "execution: {cycles: 3, max_experiments: 4}")


@pytest.mark.parametrize(
    "name", ["backend", "model", "batch_size", "pytorch.num_beams", "decoder.temperature", "quant"]
)
def test_group_by_takes_axes_and_keys(expanded: Expand, name: str) -> None:
    """Whatever a campaign may set can group its results."""
    text = "grid: {backends: [pytorch], bundles: {quant: {none: {random_seed: 1}}}}"
    assert expanded(f"model: m\n{text}\ngroup_by: [{name}]").points


def test_group_by_refuses_what_does_not_exist(tmp_path: Path) -> None:
    """The nearest name is offered."""
    path = tmp_path / "c.yaml"
    path.write_text("campaign_name: c\nmodel: m\ngrid: {backends: [pytorch]}\ngroup_by: [fp_precison]\n")
    with pytest.raises(CampaignError, match=r"'fp_precison' is neither .* did you mean 'fp_precision'"):
        expand(load(path, tmp_path, backends=ALL), ALL)


@pytest.mark.parametrize(
    ("text", "options", "where"),
    [
        ("grid: {backends: [pytorch]}\ngroup_by: [model, bacth_size]", (), ["c.yaml:4:19: group_by[1]: "]),
        (
            "grid: {backends: [pytorch]}\ngroup_by:\n- a1\n- b2",
            (),
            ["c.yaml:5:3: group_by[0]: ", "c.yaml:6:3: group_by[1]: "],
        ),
        (
            "grid:\n  backends: [pytorch]\n  exclude:\n  - max_input_tokens: 2\n    random_seed: 3",
            (),
            ["c.yaml:6:5: grid.exclude[0]: ", "c.yaml:7:5: grid.exclude[0]: "],
        ),
        ("execution: {max_experiments: 1}\ngrid: {backends: [pytorch]}", (), ["c.yaml:4:1: 1 points x 5"]),
        (
            "defaults: {fp_precision: float32}\ngrid: {backends: [tensorrt]}",
            (),
            ["c.yaml:4:1: none of 1 points can run: "],
        ),
        ("experiments: [{backend: strict, strict: {batch: 2}}]", (), ["c.yaml:1:1: none of 1 points"]),
        (
            "grid: {backends: [pytorch]}",
            ("group_by=[a1]",),
            ["--campaign-set group_by: group_by[0]: "],
        ),
        (
            "grid: {backends: [pytorch]}",
            ("grid.exclude=[{random_seed: 1}]",),
            ["--campaign-set grid.exclude: grid.exclude[0]: "],
        ),
    ],
    ids=range(8),
)
def test_what_is_wrong_with_the_points_is_said_where_it_is_written(
    tmp_path: Path, text: str, options: tuple[str, ...], where: list[str]
) -> None:
    """Whatever only the whole grid shows has a line and a column, or its option, and all of it is said at once."""
    path = tmp_path / "c.yaml"
    path.write_text(f"campaign_name: c\nmodel: m\n{text}\n")
    with pytest.raises(CampaignError) as refused:
        expand(load(path, tmp_path, options, backends=ALL), ALL)
    lines = str(refused.value).splitlines()
    assert [line[: len(place)] for line, place in zip(lines, where, strict=True)] == where


# --- Names ---


def test_point_shows_what_varies_and_nothing_else(expanded: Expand) -> None:
    """Label, id and axes name the backend and every axis that varies, by its short name."""
    found = expanded(
        """
        grid:
          backends: [pytorch]
          models: [org/m]
          shared: {decoder.temperature: [0.5, 1], pytorch.use_cache: [true, false], fp_precision: [float16]}
        """
    )
    point = found.points[1]
    assert point.label == "pytorch temperature=0.5 use_cache=false"
    assert point.id == "pytorch-temperature-0.5-use_cache-false"
    assert point.axes == {"backend": "pytorch", "model": "org/m", "temperature": 0.5, "use_cache": False}


def test_axes_with_the_same_last_part_keep_their_whole_names(expanded: Expand) -> None:
    """A short name that two axes would share is given to neither."""
    found = expanded(
        """
        model: m
        grid:
          backends: [pytorch]
          shared: {decoder.temperature: [0, 1]}
          bundles: {temperature: {low: {random_seed: 1}, high: {random_seed: 2}}}
        """
    )
    assert list(found.points[0].axes)[2:] == ["decoder_temperature", "temperature"]


def test_models_are_shown_by_the_last_part_of_their_path(expanded: Expand) -> None:
    """Two models with the same last part are shown whole."""
    text = "grid: {backends: [pytorch], models: [org/m, other/n, 'random:other/n', third/m]}"
    assert labels(expanded(text)) == ["pytorch org/m", "pytorch n", "pytorch random:n", "pytorch third/m"]


def test_a_list_or_mapping_is_shown_as_json(expanded: Expand) -> None:
    """Every axis has a plain value for tables and files."""
    found = expanded(
        """
        model: m
        grid:
          backends: [pytorch]
          shared: {quantization_config: [{quant_method: hqq}, {quant_method: quanto}]}
        """
    )
    assert found.points[0].axes["quantization_config"] == '{"quant_method":"hqq"}'


axis_names = st.sampled_from(["seed", "size", "kind", "größe", "a b", "a::b[1]"])
axis_labels = st.lists(st.text(max_size=60), min_size=1, max_size=4, unique=True)
model_names = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=80)


@given(
    bundles=st.dictionaries(axis_names, axis_labels, min_size=1, max_size=3),
    models=st.lists(model_names, min_size=1, max_size=3, unique=True),
)
def test_ids_are_short_unique_and_safe_whatever_things_are_called(
    bundles: dict[str, list[str]], models: list[str]
) -> None:
    """A node id has no bracket, colon, slash or space, at most 108 bytes before its cycle, and one owner."""
    fields = ["random_seed", "max_input_tokens", "max_output_tokens"]
    sets = {
        axis: {label: {field: 1 + i} for i, label in enumerate(labels)}
        for field, (axis, labels) in zip(fields, bundles.items(), strict=False)
    }
    grid = Grid(backends=("pytorch",), models=tuple(models), bundles=sets)
    loaded = LoadedCampaign(
        Campaign(campaign_name="c", grid=grid),
        path=Path("c.yaml"),
        rootdir=Path("nowhere"),
        key="c",
        fragments=(),
        notes=(),
        sha256="",
        document=Node({}, Mark("c.yaml")),
    )
    found: tuple[Point, ...] = expand(loaded, ALL).points
    assert len(found) == expand(loaded, ALL).generated
    assert len({point.id for point in found}) == len(found)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,108}", point.id) for point in found)


# --- Before the executor is known ---


def test_needed_backends_are_those_with_a_point_to_run(tmp_path: Path) -> None:
    """Whether containers are at hand is asked for backends that will run, not for those that are filtered."""
    path = tmp_path / "campaign.yaml"
    path.write_text(
        "campaign_name: c\nmodel: m\ngrid: {backends: [pytorch, vllm, tensorrt], shared: {fp_precision: [float32]}}\n"
        "experiments: [{backend: strict, strict: {batch: 2}}]\n"
    )
    loaded = load(path, tmp_path, backends=ALL)
    assert needed_backends(loaded, ALL) == ["pytorch", "vllm"]


def test_needed_backends_of_a_grid_that_is_too_large_are_not_looked_for(tmp_path: Path) -> None:
    """A grid of a million points, none of which can run, is refused at once."""
    axes = {name: list(range(1, 101)) for name in ("batch_size", "max_input_tokens", "max_output_tokens")}
    grid = {"backends": ["tensorrt"], "shared": {"fp_precision": ["float32"], "random_seed": [1], **axes}}
    path = tmp_path / "campaign.yaml"
    path.write_text(json.dumps({"campaign_name": "c", "model": "m", "grid": grid}))
    with pytest.raises(CampaignError, match="1,000,000 points x 5 cycles"):
        needed_backends(load(path, tmp_path, backends=ALL), ALL)


@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(tmp_path: Path, *, is_enabled: bool) -> None:
    """It rests while a grid is expanded, and a grid that is refused does not leave it resting."""
    path = tmp_path / "campaign.yaml"
    path.write_text(
        "campaign_name: c\nmodel: m\ngrid: {backends: [tensorrt], shared: {fp_precision: [float32]}}\n"
    )
    try:
        if not is_enabled:
            gc.disable()
        with pytest.raises(CampaignError):
            expand(load(path, tmp_path, backends=ALL), ALL)
        assert gc.isenabled() == is_enabled
    finally:
        gc.enable()
