"""Loading a campaign: what a valid file becomes, and what is said of one that is not."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.campaign.loader import CampaignError, LoadedCampaign, load, looks_like_campaign

Load = Callable[..., LoadedCampaign]

GRID = """
campaign_name: demo
model: gpt2
grid:
  backends: [pytorch, vllm]
  shared:
    batch_size: [1, 8]
    decoder.temperature: [0, 0.7]
"""


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    """A function that writes a campaign, and files beside it, and loads it."""

    def load_written(text: str, *overrides: str, **files: str) -> LoadedCampaign:
        (tmp_path / "campaigns").mkdir(exist_ok=True)
        for name, content in {**files, "demo": text}.items():
            (tmp_path / "campaigns" / f"{name}.yaml").write_text(textwrap.dedent(content).lstrip())
        return load(tmp_path / "campaigns" / "demo.yaml", tmp_path, overrides)

    return load_written


@pytest.fixture
def problems(load_text: Load) -> Callable[..., list[str]]:
    """A function that returns the lines of the error that a campaign gives."""

    def lines(text: str, *overrides: str, **files: str) -> list[str]:
        with pytest.raises(CampaignError) as caught:
            load_text(text, *overrides, **files)
        assert len(caught.value.problems) == len(str(caught.value).splitlines())
        return str(caught.value).splitlines()

    return lines


Problems = Callable[..., list[str]]


class TestValues:
    def test_a_grid_becomes_lists_of_checked_values(self, load_text: Load) -> None:
        """An axis holds its values in file order, as the types that their keys have."""
        grid = load_text(GRID).campaign.grid
        assert grid is not None
        assert grid.shared == {"batch_size": (1, 8), "decoder.temperature": (0.0, 0.7)}

    def test_axes_is_another_name_for_shared(self, load_text: Load) -> None:
        """A grid that spells `shared` as `axes`, as v1's own example does, keeps its axes."""
        assert load_text(GRID.replace("shared", "axes")).campaign == load_text(GRID).campaign

    @pytest.mark.parametrize(
        ("yaml", "key", "value"),
        [
            ("window: {seconds: 1e-3}", ("window", "seconds"), 0.001),
            ("execution: {cycles: 1e1}", ("execution", "cycles"), 10),
            ("execution: {cycles: 7.0}", ("execution", "cycles"), 7),
            ("execution: {seed: 0xff}", ("execution", "seed"), 255),
            ("execution: {seed: 1_000}", ("execution", "seed"), 1000),
            ("execution: {conditioning: off}", ("execution", "conditioning"), False),
            ("execution: {cycles: null}", ("execution", "cycles"), 5),
            ("execution:", ("execution", "cycles"), 5),
            ("execution.cycles: 3", ("execution", "cycles"), 3),
            ("daemon: {at: 12:30}", ("daemon", "at"), "12:30"),
            ("daemon: {at: 2:30}", ("daemon", "at"), "02:30"),
            ("schema_version: 3.0", ("schema_version",), "3.0"),
            ("schema_version: 2025-01-31", ("schema_version",), "2025-01-31"),
            ("campaign_name: '2025-01-31'", ("campaign_name",), "2025-01-31"),
            ("campaign_name: 12:30", ("campaign_name",), "12:30"),
            ("campaign_name: 007", ("campaign_name",), "007"),
            ("notify: {on: [failure]}", ("notify", "on"), ("failure",)),
            ("x: &seconds 5\nwindow: {seconds: *seconds}", ("window", "seconds"), 5.0),
            ("window: {<<: {passes: 4, seconds: 1}, seconds: 2}", ("window",), {"seconds": 2.0, "passes": 4}),
            ("window: {<<: [{passes: 4}, {passes: 5, seconds: 1}]}", ("window",), {"seconds": 1.0, "passes": 4}),
        ],
    )
    def test_what_yaml_says_is_what_is_meant(
        self, load_text: Load, yaml: str, key: tuple[str, ...], value: Any
    ) -> None:
        """Numbers, words, nulls, aliases and merge keys are read as their author reads them."""
        text = f"{GRID}\n{yaml}" if "campaign_name" not in yaml else GRID.replace("campaign_name: demo", yaml)
        if yaml.startswith("x:"):
            text = text.replace("x: &seconds 5", "defaults: {num_input_prompts: &seconds 5}")
        found: Any = load_text(text).campaign.model_dump()
        for part in key:
            found = found[part]
        assert found == value

    def test_fragments_come_in_the_order_of_the_file(self, load_text: Load) -> None:
        """Explicit experiments are those of `configs`, then those of `experiments`, with overrides on top."""
        loaded = load_text(
            """
            campaign_name: demo
            experiments:
              - {model_name: inline, decoder: {temperature: 0}}
              - {config: base.yaml, overrides: {max_output_tokens: 7, pytorch.num_beams: 2}}
            configs: [base.yaml]
            """,
            base="""
            model_name: gpt2
            max_output_tokens: 64
            batch_size: 4
            """,
        )
        section = {"batch_size": 4}
        assert [each.fragment for each in loaded.fragments] == [
            {"model_name": "gpt2", "max_output_tokens": 64, "pytorch": section},
            {"model_name": "inline", "decoder": {"temperature": 0.0}},
            {"model_name": "gpt2", "max_output_tokens": 7, "pytorch": {**section, "num_beams": 2}},
        ]
        wheres = [each.where for each in loaded.fragments]
        assert wheres == ["campaigns/base.yaml", "campaigns/demo.yaml:3:5", "campaigns/base.yaml"]

    def test_batch_size_is_each_backends_own_parameter(self, load_text: Load) -> None:
        """The short form in `defaults` and bundles sets the batch parameter of every backend."""
        text = GRID.replace("    batch_size: [1, 8]\n", "")
        loaded = load_text(text + "  bundles: {size: {small: {batch_size: 2}}}\ndefaults: {batch_size: 3}\n")
        assert loaded.campaign.grid is not None
        small = loaded.campaign.grid.bundles["size"]["small"]
        assert small == {"pytorch": {"batch_size": 2}, "vllm": {"max_num_seqs": 2}}
        assert loaded.campaign.defaults["tensorrt"] == {"max_batch_size": 3}

    def test_an_override_is_a_list_of_values(self, load_text: Load) -> None:
        """A scalar, a list and a list-typed parameter all become the list of values that an axis has."""
        loaded = load_text(
            GRID
            + """
  backend_overrides:
    pytorch: {attn_implementation: eager, pytorch.num_beams: [1, 2], decoder.top_k: 5}
    vllm: {cudagraph_capture_sizes: [1, 2], logit_bias: {0: -1}, enforce_eager: [true, false]}
"""
        )
        assert loaded.campaign.grid is not None
        assert loaded.campaign.grid.backend_overrides == {
            "pytorch": {
                "pytorch.attn_implementation": ["eager"],
                "pytorch.num_beams": [1, 2],
                "decoder.top_k": [5],
            },
            "vllm": {
                "vllm.cudagraph_capture_sizes": [(1, 2)],
                "vllm.logit_bias": [{0: -1.0}],
                "vllm.enforce_eager": [True, False],
            },
        }

    def test_an_exclusion_holds_lists_of_checked_values(self, load_text: Load) -> None:
        """Values to drop have the types of the axes, which may be named by their last part."""
        loaded = load_text(
            GRID
            + """
  bundles: {size: {small: {max_output_tokens: 8}}}
  exclude:
    - {backend: vllm, temperature: 0}
    - {batch_size: [8], size: small, model: gpt2}
"""
        )
        assert loaded.campaign.grid is not None
        assert loaded.campaign.grid.exclude == (
            {"backend": ["vllm"], "temperature": [0.0]},
            {"batch_size": [8], "size": ["small"], "model": ["gpt2"]},
        )

    def test_the_name_of_a_data_set_brings_all_that_belongs_to_it(self, load_text: Load) -> None:
        """An experiment's own data set leaves nothing of the lower layers' column and subset behind."""
        loaded = load_text(
            """
            campaign_name: demo
            model: gpt2
            dataset: {name: some/set, column: body, sample_size: 9}
            experiments: [{dataset: other/set}, {dataset: null}]
            """
        )
        assert loaded.campaign.dataset == "some/set"
        assert loaded.campaign.defaults == {"dataset": {"column": "body", "sample_size": 9}}
        assert [each.fragment for each in loaded.fragments] == [
            {"dataset": {"name": "other/set", "split": "train", "subset": None, "column": None}},
            {"dataset": None},
        ]

    def test_an_axis_of_data_sets_is_a_bundle(self, load_text: Load) -> None:
        """Each data set of an axis comes with its own column and subset, under the name that was written."""
        grid = load_text(GRID + "    dataset: [gsm8k, {name: a/b, column: c}]\n").campaign.grid
        assert grid is not None
        assert {label: each["dataset"]["column"] for label, each in grid.bundles["dataset"].items()} == {
            "gsm8k": "question",
            "a/b": "c",
        }

    def test_prompt_files_start_at_the_file_that_names_them(self, load_text: Load, tmp_path: Path) -> None:
        """A prompts file is named from the root folder, wherever the campaign lies."""
        text = "campaign_name: demo\nmodel: gpt2\nexperiments: [{prompts_file: ../p.txt}, {prompts_file: /p.txt}]"
        fragments = load_text(text).fragments
        assert [each.fragment["prompts_file"] for each in fragments] == ["p.txt", "/p.txt"]


class TestEnvironment:
    def test_a_plain_value_is_read_after_its_expansion(
        self, load_text: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An unquoted value that expands to a number is a number; a quoted one stays text."""
        monkeypatch.setenv("CYCLES", "3")
        monkeypatch.delenv("NAME", raising=False)
        campaign = load_text(
            GRID.replace("demo", '"${NAME:-7}"') + "execution:\n  cycles: ${CYCLES}\n  seed: ${SEED:-12}\n"
        ).campaign
        assert (campaign.campaign_name, campaign.execution.cycles, campaign.execution.seed) == ("7", 3, 12)

    def test_two_dollars_are_one(self, load_text: Load) -> None:
        """`$$` escapes an expansion, and a dollar before anything but a brace is itself."""
        assert load_text(GRID.replace("demo", "'$${A} $B'")).campaign.campaign_name == "${A} $B"

    def test_keys_are_not_expanded(self, problems: Problems) -> None:
        """A reference in a key is a key that nobody knows."""
        assert problems(GRID + '"${A:-window}": {seconds: 1}') == [
            "campaigns/demo.yaml:8:1: ${A:-window}: unknown key; did you mean 'window'?"
        ]

    def test_an_unset_variable_is_named(self, problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that is neither set nor has a default is a problem where it is written."""
        monkeypatch.delenv("NOBODY", raising=False)
        assert problems(GRID + "execution:\n  seed: ${NOBODY}") == [
            "campaigns/demo.yaml:9:9: execution.seed: the environment variable NOBODY is not set; "
            "set it or write ${NOBODY:-default}"
        ]


class TestProblems:
    @pytest.mark.parametrize(
        ("yaml", "message"),
        [
            ("exection: {}", "8:1: exection: unknown key; did you mean 'execution'?"),
            ("execution: 5", "8:12: execution: expected a mapping with keys such as cycles, structure, seed, "
             "warmup_prompts, found the number 5"),
            ("execution: {cycles: three}", "8:21: execution.cycles: expected a whole number, found the text 'three'"),
            ('execution: {cycles: "3"}', "8:21: execution.cycles: expected a whole number, found the text '3'; "
             "remove the quotes"),
            ("execution: {cycles: yes}", "8:21: execution.cycles: expected a whole number, found the boolean yes"),
            ("execution: {cycles: 2.5}", "8:21: execution.cycles: expected a whole number, found the number 2.5"),
            ("execution: {cycles: 0}", "8:21: execution.cycles: expected at least 1, found the number 0"),
            ("execution: {cycles: [1]}", "8:21: execution.cycles: expected a whole number, found a list"),
            ("execution: {cycles: 010}", "8:21: execution.cycles: expected a whole number, found the text '010'"),
            ("execution: {conditioning: 1}", "8:27: execution.conditioning: expected true or false, found the number 1"),
            ("execution: {gap: thermic}", "8:18: execution.gap: expected 'fixed' or 'thermal', found the text "
             "'thermic'; did you mean 'thermal'?"),
            ("window: {seconds: .inf}", "8:19: window.seconds: expected a finite number, found the number .inf"),
            ("window: {seconds: -1}", "8:19: window.seconds: expected at least 0, found the number -1"),
            ("campaign_name: on", "1:16: campaign_name: expected text, found the boolean on; quote it: \"on\""),
            ("campaign_name: 1e3", "1:16: campaign_name: expected text, found the number 1e3; quote it: \"1e3\""),
            ("campaign_name: 2025-01-31", "1:16: campaign_name: the date 2025-01-31 is no value; quote it "
             'if text is meant: "2025-01-31"'),
            ("campaign_name: a/b", "1:16: campaign_name: 'a/b' cannot name a file: write some text without slashes "
             "and control characters"),
            ("campaign_name: ..", "1:16: campaign_name: '..' cannot name a file: write some text without slashes "
             "and control characters"),
            ('campaign_name: "a\\tb"', "1:16: campaign_name: 'a\\tb' cannot name a file: write some text without "
             "slashes and control characters"),
            ('campaign_name: ""', "1:16: campaign_name: '' cannot name a file: write some text without slashes "
             "and control characters"),
            ("campaign_name:", "1:15: campaign_name: expected text, found nothing"),
            ("daemon: {at: 25:00}", "8:14: daemon.at: '25:00' is no time of day: write HH:MM, such as 02:30"),
            ("daemon: {interval: 6}", "8:20: daemon.interval: expected text, found the number 6; quote it: \"6\""),
            ("daemon: {interval: 6 hours}", "8:20: daemon.interval: '6 hours' is no duration: write a whole number "
             "with s, m, h or d, such as 90s or 6h"),
            ("daemon: {enabled: true}", "8:19: daemon.enabled: daemon.enabled other than false comes with the daemon"),
            ("notify: {webhook_url: example.org}", "8:23: notify.webhook_url: 'example.org' is no address: write one "
             "that starts with https:// or http://"),
            ("notify: {on: [complete, failed]}", "8:25: notify.on[1]: expected 'complete' or 'failure', found the "
             "text 'failed'; did you mean 'failure'?"),
            ("group_by: backend", "8:11: group_by: expected a list, found the text 'backend'; write [backend]"),
            ("services: {pytorhc: {}}", "8:12: services.pytorhc: no such backend is installed; did you mean "
             "'pytorch'?"),
            ("services: {pytorch: {pyhton: x}}", "8:30: services.pytorch.pyhton: unknown key 'pyhton'"),
            ("expect: {energy_per_token_j: {max: 1}}", "8:10: expect.energy_per_token_j: no such metric; did you mean "
             "'energy_per_total_token_j'?"),
            ("expect: {energy_j: {}}", "8:20: expect.energy_j: a budget needs max or min"),
            ("expect: {energy_j: {max: 1, min: 2}}", "8:20: expect.energy_j: max is below min"),
            ("io: {results_dir: ../elsewhere}", "8:19: io.results_dir: ../elsewhere leads out of the root folder; "
             "write a path below it, or an absolute one"),
            ("io: {results_dir: ~/results}", "8:19: io.results_dir: '~' is not expanded; write ${HOME} or the "
             "whole path"),
            ("defaults: [1]", "8:11: defaults: expected a mapping, found a list"),
            ("defaults: {decoder: {temprature: 0}}", "8:22: defaults.decoder.temprature: unknown key; did you mean "
             "'temperature'?"),
            ("defaults: {temperature: 0}", "8:12: defaults.temperature: unknown key; did you mean "
             "'decoder.temperature'?"),
            ("defaults: {fp_precision: fp16}", "8:26: defaults.fp_precision: expected 'float32', 'float16' or "
             "'bfloat16', found the text 'fp16'"),
            ("defaults: {backend: vlm}", "8:21: defaults.backend: expected 'pytorch', 'tensorrt' or 'vllm', found "
             "the text 'vlm'; did you mean 'vllm'?"),
            ("defaults: {parameters: {}}", "8:12: defaults.parameters: unknown key"),
            ("defaults: {load: {mode: poisson}}", "8:25: defaults.load.mode: load.mode other than \"batch\" comes with "
             "request latencies under load"),
            ("configs: base.yaml", "8:10: configs: expected a list, found the text 'base.yaml'; write [base.yaml]"),
            ("configs: [1]", "8:11: configs[0]: expected text, the path of an experiment file, found the number 1; "
             'quote it: "1"'),
            ("configs: [nowhere.yaml]", "8:11: configs[0]: campaigns/nowhere.yaml does not exist"),
            ("configs: [../../x.yaml]", "8:11: configs[0]: ../../x.yaml lies outside the root folder {root}"),
            ('configs: ["a\\0b"]', "8:11: configs[0]: 'a\\x00b' is no path"),
            ("configs: [..]", "8:11: configs[0]: . is a folder, not a file"),
            ("experiments: [{}]", "8:15: experiments[0]: expected `config` with a file, or the keys of an "
             "experiment, found a mapping"),
            ("experiments: [x.yaml]", "8:15: experiments[0]: expected `config` with a file, or the keys of an "
             "experiment, found the text 'x.yaml'"),
            ("experiments: [{overrides: {}}]", "8:15: experiments[0].config: expected text, the path of an "
             "experiment file, found nothing"),
            ("experiments: [{config_name: a/b}]", "8:29: experiments[0].config_name: 'a/b' cannot name a file: write "
             "some text without slashes and control characters"),
        ],
    )
    def test_a_problem_has_a_place_a_key_and_plain_words(
        self, problems: Problems, tmp_path: Path, yaml: str, message: str
    ) -> None:
        """Each mistake gives one line: file, line and column, the dotted key, what is wrong, what to do."""
        text = GRID.replace("campaign_name: demo", yaml) if "campaign_name" in yaml else GRID + yaml
        assert problems(text) == [f"campaigns/demo.yaml:{message.replace('{root}', str(tmp_path))}"]

    @pytest.mark.parametrize(
        ("yaml", "message"),
        [
            ("backends: [pytorhc]", "4:14: grid.backends[0]: no such backend is installed; did you mean 'pytorch'?"),
            ("backends: []", "4:13: grid.backends: expected at least 1 in the list, found a list"),
            ("backend: [vllm]", "3:1: grid.backends: the key is missing; name one or more"),
            ("backends: [vllm]\n  shared: [1]", "5:11: grid.shared: expected a mapping, found a list"),
            ("backends: [vllm]\n  shared: {fp_precision: float16}", "5:26: grid.shared.fp_precision: expected a list, "
             "found the text 'float16'; write [float16]"),
            ("backends: [vllm]\n  shared: {batch_size: []}", "5:24: grid.shared.batch_size: an axis needs at least "
             "one value"),
            ("backends: [vllm]\n  shared: {batch_size: [1, two]}", "5:28: grid.shared.batch_size[1]: expected a whole "
             "number, found the text 'two'"),
            ("backends: [vllm]\n  shared: {pytorch.batch_size: [1]}", "5:12: grid.shared.pytorch.batch_size: pytorch "
             "is not in grid.backends"),
            ("backends: [vllm]\n  shared: {batchsize: [1]}", "5:12: grid.shared.batchsize: unknown key; did you mean "
             "'batch_size'?"),
            ("backends: [vllm]\n  shared: {model: [a]}", "5:12: grid.shared.model: not a shared axis; write "
             "grid.models"),
            ("backends: [vllm]\n  shared: {decoder: [a]}", "5:12: grid.shared.decoder: a section is no axis; write one "
             "such as decoder.preset, or a bundle"),
            ("backends: [vllm]\n  shared: {gpus: [1]}", "5:19: grid.shared.gpus[0]: expected a list, found the number "
             "1; write [1]"),
            ("backends: [vllm]\n  shared: {batch_size: [1]}\n  axes: {}", "6:3: grid.axes: another name for "
             "grid.shared; put all axes into one of them"),
            ("backends: [vllm]\n  bundles: {size: {}}", "5:13: grid.bundles.size: a bundle needs a label with what it "
             "sets"),
            ("backends: [vllm]\n  bundles: {size: {s: {max_output: 8}}}", "5:24: grid.bundles.size.s.max_output: "
             "unknown key; did you mean 'max_output_tokens'?"),
            ("backends: [vllm]\n  backend_overrides: {vlm: {}}", "5:23: grid.backend_overrides.vlm: no such backend "
             "is installed; did you mean 'vllm'?"),
            ("backends: [vllm]\n  backend_overrides: {vllm: {max_seqs: 1}}", "5:30: "
             "grid.backend_overrides.vllm.max_seqs: unknown key; did you mean 'max_num_seqs'?"),
            ("backends: [vllm]\n  backend_overrides: {vllm: {max_num_seqs: [1, a]}}", "5:48: "
             "grid.backend_overrides.vllm.max_num_seqs[1]: expected a whole number, found the text 'a'"),
            ("backends: [vllm]\n  exclude: [{}]", "5:13: grid.exclude[0]: an entry needs an axis with the values to "
             "drop"),
            ("backends: [vllm]\n  exclude: [{backend: vlm}]", "5:23: grid.exclude[0].backend: expected one of vllm, "
             "found the text 'vlm'; did you mean 'vllm'?"),
            ("backends: [vllm]\n  exclude: [{fp_precision: [fp16]}]", "5:29: grid.exclude[0].fp_precision[0]: "
             "expected 'float32', 'float16' or 'bfloat16', found the text 'fp16'"),
        ],
    )
    def test_a_problem_in_a_grid_is_found_at_its_value(
        self, problems: Problems, yaml: str, message: str
    ) -> None:
        """Axes, bundles, overrides and exclusions are checked where they are written."""
        found = problems(f"campaign_name: demo\nmodel: gpt2\ngrid:\n  {yaml}\n")
        assert f"campaigns/demo.yaml:{message}" in found

    def test_all_problems_are_told_at_once(self, problems: Problems) -> None:
        """Mistakes in the campaign, in a grid and in an experiment file come together."""
        text = GRID.replace("[1, 8]", "[x]") + "window: {passes: 0}\nconfigs: [base.yaml, gone.yaml]\n"
        assert problems(text, base="max_output_tokens: -1\nbackend: [") == [
            "campaigns/demo.yaml:8:18: window.passes: expected at least 1, found the number 0",
            "campaigns/base.yaml:3:1: not valid YAML: did not find expected node content, while parsing a flow node",
            "campaigns/demo.yaml:9:22: configs[1]: campaigns/gone.yaml does not exist",
            "campaigns/demo.yaml:6:18: grid.shared.batch_size[0]: expected a whole number, found the text 'x'",
        ]

    def test_many_problems_end_in_a_count(self, load_text: Load) -> None:
        """An axis of a thousand wrong values does not fill the screen."""
        with pytest.raises(CampaignError) as caught:
            load_text(GRID.replace("[1, 8]", str(["x"] * 1000)))
        assert len(caught.value.problems) == 1000
        assert str(caught.value).endswith("\nand 950 more")

    def test_a_campaign_without_experiments_is_told_what_to_add(self, problems: Problems) -> None:
        """Without grid, configs and experiments there is nothing to measure."""
        assert problems("campaign_name: demo\nmodel: gpt2\n") == [
            "campaigns/demo.yaml:1:1: nothing to measure: add `grid: {backends: [pytorch]}`, or `experiments`, "
            "or `configs`"
        ]

    def test_a_campaign_without_a_model_is_told_where_to_write_it(self, problems: Problems) -> None:
        """Grid and experiments both say that they lack a model."""
        text = "campaign_name: demo\ngrid: {backends: [vllm]}\nexperiments: [{batch_size: 1}]\n"
        assert problems(text) == [
            "campaigns/demo.yaml:2:1: grid: no model is given; add `model:` with a hub id or a folder, or grid.models",
            "campaigns/demo.yaml:3:15: model_name: no model is given; write it here, or add `model:` with a hub id "
            "or a folder",
        ]

    @pytest.mark.parametrize(
        "yaml",
        [
            "grid: {backends: [vllm], models: [gpt2]}",
            "grid: {backends: [vllm], shared: {model_name: [gpt2]}}",
            "grid: {backends: [vllm], bundles: {who: {a: {model_name: gpt2}, b: {model_name: gpt3}}}}",
            "grid: {backends: [vllm]}\ndefaults: {model_name: gpt2}",
        ],
    )
    def test_a_model_may_be_given_anywhere(self, load_text: Load, yaml: str) -> None:
        """A model among the grid's axes, in a bundle or in the defaults is enough."""
        load_text(f"campaign_name: demo\n{yaml}\n")

    def test_an_experiment_file_is_no_campaign(self, problems: Problems) -> None:
        """An experiment file given as a campaign is recognised, and the other way round."""
        assert problems("config_name: a\nmodel_name: gpt2\n")[-2] == (
            "campaigns/demo.yaml:1:1: campaign_name: the key is missing; this looks like an experiment file: name it "
            "under `configs` of a campaign"
        )
        assert problems(GRID + "configs: [base.yaml]", base=GRID) == [
            "campaigns/base.yaml:1:1: this is a campaign; an experiment file is expected"
        ]


class TestYaml:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", ": the file is empty"),
            ("# only a comment\n", ": the file is empty"),
            ("- a\n- b\n", ":1:1: expected a mapping with keys, found a list"),
            ("text\n", ":1:1: expected a mapping with keys, found the text 'text'"),
            ("a: 1\n---\nb: 2\n", ":2:1: a second document starts here; a file holds one"),
            ("a: [1\nb: 2\n", ":2:2: not valid YAML: did not find expected ',' or ']', while parsing a flow sequence"),
            ("a:\n\tb: 1\n", ":2:1: not valid YAML: a tab; YAML is indented with spaces"),
            ("a: @b\n", ":1:4: not valid YAML: a value that starts with @ must be quoted"),
            ("a: 1\nb: \a\n", ":2:4: the character '\\x07' is not text"),
            ("a: !!python/name:os.system x\n", ":1:4: a: the tag tag:yaml.org,2002:python/name:os.system means nothing "
             "here; remove it"),
            ("? [1]\n: 2\n", ":1:3: ?: a key must be plain text"),
            ("a: &x [*x]\n", ":1:8: the alias *x stands inside the value that it names"),
            ("a: *x\n", ":1:4: the alias *x names no anchor before it"),
            ("<<: 3\n", ":1:5: <<: only mappings can be merged"),
            ("a: " + "[" * 100_000, ":1:36: nested deeper than 32 levels"),
            ("- " * 100_000, ":1:67: nested deeper than 32 levels"),
        ],
    )
    def test_what_is_no_campaign_is_refused_where_it_goes_wrong(
        self, tmp_path: Path, content: str, message: str
    ) -> None:
        """Broken, foreign and hostile YAML gives a place and a sentence, never a traceback."""
        path = tmp_path / "c.yaml"
        path.write_text(content)
        with pytest.raises(CampaignError) as caught:
            load(path, tmp_path)
        assert str(caught.value).splitlines()[0] == f"c.yaml{message}"

    def test_equal_keys_are_refused_with_both_places(self, problems: Problems) -> None:
        """The second of two equal keys is a problem that names the first."""
        assert problems(GRID + "window: {passes: 1, passes: 2}") == [
            "campaigns/demo.yaml:8:21: window.passes: written twice; first at campaigns/demo.yaml:8:10"
        ]

    def test_one_key_in_two_spellings_is_refused_with_both_places(self, problems: Problems) -> None:
        """A key written nested and dotted is set twice."""
        assert problems(GRID + "defaults: {decoder: {top_k: 1}, decoder.top_k: 2}") == [
            "campaigns/demo.yaml:8:33: defaults.decoder.top_k: already set by defaults.decoder.top_k at "
            "campaigns/demo.yaml:8:22"
        ]

    def test_an_alias_bomb_is_refused(self, tmp_path: Path) -> None:
        """Aliases that would expand to a billion values are counted, not expanded."""
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
        (tmp_path / "c.yaml").write_text("\n".join(lines))
        with pytest.raises(CampaignError, match=r"^c.yaml:5:5: a4: more than 100,000 values$"):
            load(tmp_path / "c.yaml", tmp_path)


class TestFiles:
    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        """A campaign that does not exist is an error like any other."""
        with pytest.raises(CampaignError, match=r"^c.yaml: c.yaml does not exist$"):
            load(tmp_path / "c.yaml", tmp_path)

    def test_a_folder_is_no_campaign(self, tmp_path: Path) -> None:
        """A folder in the place of a campaign is called a folder."""
        (tmp_path / "c").mkdir()
        with pytest.raises(CampaignError, match=r"^c: c is a folder, not a file$"):
            load(tmp_path / "c", tmp_path)

    def test_other_encodings_are_refused(self, tmp_path: Path) -> None:
        """A file that is not UTF-8 is refused with the byte; a byte order mark is forgiven."""
        (tmp_path / "c.yaml").write_bytes(b"campaign_name: caf\xe9\n")
        with pytest.raises(CampaignError, match=r"^c.yaml: not UTF-8 text: byte 0xe9 at offset 18$"):
            load(tmp_path / "c.yaml", tmp_path)
        (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbf" + GRID.encode())
        assert load(tmp_path / "c.yaml", tmp_path).campaign.campaign_name == "demo"

    def test_a_campaign_outside_the_root_folder_is_told_where_to_go(self, tmp_path: Path) -> None:
        """The error holds the `cd` that makes the campaign run."""
        (tmp_path / "root").mkdir()
        (tmp_path / "c.yaml").write_text(GRID)
        with pytest.raises(CampaignError) as caught:
            load(tmp_path / "c.yaml", tmp_path / "root")
        assert f"type `cd {tmp_path}` first" in str(caught.value)

    def test_a_root_folder_behind_a_link_still_holds_its_campaigns(self, tmp_path: Path) -> None:
        """A campaign named through another spelling of the root folder is found inside."""
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "c.yaml").write_text(GRID)
        (tmp_path / "link").symlink_to(tmp_path / "root")
        assert load(tmp_path / "link" / "c.yaml", tmp_path / "root").path == tmp_path / "root" / "c.yaml"

    def test_an_experiment_file_may_extend_another(self, load_text: Load, problems: Problems) -> None:
        """`_extends` lays a file over its base; a circle is refused."""
        text = "campaign_name: demo\nconfigs: [child.yaml]\n"
        files = {"child": "_extends: base.yaml\ndecoder: {top_k: 2}\n"}
        loaded = load_text(text, **files, base="model_name: gpt2\ndecoder: {top_k: 1, top_p: 0.5}\n")
        assert loaded.fragments[0].fragment == {"model_name": "gpt2", "decoder": {"top_k": 2, "top_p": 0.5}}
        assert problems(text, **files, base="_extends: child.yaml\n") == [
            "campaigns/base.yaml:1:11: _extends: campaigns/child.yaml extends itself"
        ]

    def test_an_experiment_path_may_start_at_the_root_folder(self, load_text: Load, tmp_path: Path) -> None:
        """A path that leads nowhere from the campaign is tried from the root folder, as v1's paths are meant."""
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "a.yaml").write_text("model_name: gpt2\n")
        loaded = load_text("campaign_name: demo\nconfigs: [configs/a.yaml]\n")
        assert loaded.fragments[0].where == "configs/a.yaml"


class TestOptions:
    def test_an_option_sets_any_campaign_key(self, load_text: Load) -> None:
        """Keys are reached by dotted path, whether the file has them or not; values are YAML."""
        campaign = load_text(
            GRID, "execution.cycles=7", "window.passes=1e1", "grid.shared.decoder.temperature=[1, 0.5]", "isolation="
        ).campaign
        assert (campaign.execution.cycles, campaign.window.passes, campaign.isolation) == (7, 10, "flag")
        assert campaign.grid is not None
        assert campaign.grid.shared["decoder.temperature"] == (1.0, 0.5)

    def test_an_experiment_key_as_an_option_wins_over_the_file(self, load_text: Load) -> None:
        """An axis, bundle key, override or experiment's own key gives way to the option."""
        loaded = load_text(
            GRID
            + """
  models: [gpt2, gpt3]
  bundles: {size: {small: {max_output_tokens: 8, random_seed: 1}}}
  backend_overrides: {pytorch: {batch_size: [2, 4], num_beams: 2}}
experiments: [{model_name: gpt4, max_output_tokens: 9, decoder: {top_k: 1}, pytorch: {batch_size: 3}}]
""",
            "batch_size=16",
            "model=gpt5",
            "max_output_tokens=32",
        )
        grid = loaded.campaign.grid
        assert grid is not None
        assert (grid.models, grid.shared) == (None, {"decoder.temperature": (0.0, 0.7)})
        assert grid.bundles == {"size": {"small": {"random_seed": 1}}}
        assert grid.backend_overrides == {"pytorch": {"pytorch.num_beams": [2]}}
        assert loaded.fragments[0].fragment == {"decoder": {"top_k": 1}}
        assert loaded.campaign.defaults == {
            "model_name": "gpt5",
            "max_output_tokens": 32,
            "pytorch": {"batch_size": 16},
            "vllm": {"max_num_seqs": 16},
        }

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("execution.cycles", "--campaign-set execution.cycles: write KEY=VALUE, such as execution.cycles=7"),
            ("execution.cycles=x", "--campaign-set execution.cycles: execution.cycles: expected a whole number, found "
             "the text 'x'"),
            ("execution.cycels=3", "--campaign-set execution.cycels: execution.cycels: unknown key; did you mean "
             "'cycles'?"),
            ("exection.cycles=3", "--campaign-set exection.cycles: exection.cycles: unknown key; did you mean "
             "'execution'?"),
            ("max_output_token=3", "--campaign-set max_output_token: max_output_token: unknown key; did you mean "
             "'max_output_tokens'?"),
            ("max_output_tokens=0", "--campaign-set max_output_tokens: max_output_tokens: expected at least 1, found "
             "the number 0"),
            ("window.seconds=[", "--campaign-set window.seconds: not valid YAML: did not find expected node content, "
             "while parsing a flow node"),
            ("grid.backends.0=vllm", "--campaign-set grid.backends.0: only a whole list can be set; leave out '.0'"),
        ],
    )
    def test_a_wrong_option_is_named(self, problems: Problems, option: str, message: str) -> None:
        """A mistake in an option is placed at the option."""
        assert problems(GRID, option) == [message]

    def test_options_leave_aliased_values_alone(self, load_text: Load) -> None:
        """Setting a key behind an alias does not change the value that the alias names."""
        text = GRID + "expect: {energy_j: &b {max: 1}, power_mean_w: *b}"
        expect = load_text(text, "expect.power_mean_w.max=2").campaign.expect
        assert (expect["energy_j"].max, expect["power_mean_w"].max) == (1.0, 2.0)


class TestIdentity:
    def test_the_key_names_the_path_below_the_root_folder(self, load_text: Load) -> None:
        """A campaign's key is a slug of where it lies, with six digits that tell equal slugs apart."""
        loaded = load_text(GRID)
        assert loaded.key == "campaigns-demo-41bdfc"
        assert loaded.path == loaded.rootdir / "campaigns" / "demo.yaml"

    def test_the_digest_follows_meaning_not_looks(
        self, load_text: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Comments do not change the digest; expansions, options and experiment files do."""
        monkeypatch.setenv("SEED", "1")
        text = GRID + "configs: [base.yaml]\nexecution:\n  seed: ${SEED}\n"
        digest = load_text(text, base="batch_size: 1").sha256
        assert load_text(f"# why\n{text}", base="batch_size: 1 # why").sha256 == digest
        others = {load_text(text, base="batch_size: 2").sha256, load_text(text, "model=gpt3", base="batch_size: 1").sha256}
        monkeypatch.setenv("SEED", "2")
        others.add(load_text(text, base="batch_size: 1").sha256)
        assert len(others | {digest}) == 4


class TestNotes:
    def test_a_key_without_effect_yet_says_what_it_waits_for(self, load_text: Load) -> None:
        """Keys that wait for one thing share a note; a value that is the default needs none."""
        loaded = load_text(
            GRID
            + "    timeseries.sample_interval_ms: [100, 200]\n"
            + "daemon: {at: 02:00, interval: 6h, quiet: true}\nservices: {vllm: {image: x}}\n"
            + "defaults: {timeseries: {save: false, enabled: true}}\n"
        )
        assert loaded.notes == (
            "daemon.at, daemon.interval have no effect yet: they come with the daemon",
            "services.vllm.image has no effect yet: it comes with the Compose executor",
            "timeseries.save, timeseries.sample_interval_ms have no effect yet: they come with traces",
        )

    def test_a_plain_campaign_has_no_notes(self, load_text: Load) -> None:
        """A campaign that sets nothing special says nothing special."""
        assert load_text(GRID).notes == ()


class TestSniff:
    @pytest.mark.parametrize(
        ("content", "campaign"),
        [
            (b"campaign_name: x\n", True),
            (b"# first\nmodel: y\ncampaign_name:\n", True),
            (b'"campaign_name": x\n', True),
            (b"\xef\xbb\xbfcampaign_name: x\n", True),
            (b"nested:\n  campaign_name: x\n", False),
            (b"campaign_names: x\n", False),
            (b"# campaign_name: x\n", False),
            (b"\xff\x00", False),
            (b"", False),
        ],
    )
    def test_a_campaign_is_told_by_its_name(self, tmp_path: Path, content: bytes, campaign: bool) -> None:
        """A file is a campaign if a line starts with the key `campaign_name`."""
        (tmp_path / "c.yaml").write_bytes(content)
        assert looks_like_campaign(tmp_path / "c.yaml") is campaign

    @pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b", "x" * 5000])
    def test_what_cannot_be_read_is_no_campaign(self, tmp_path: Path, name: str) -> None:
        """A glance at a path never raises."""
        assert looks_like_campaign(tmp_path / name) is False
