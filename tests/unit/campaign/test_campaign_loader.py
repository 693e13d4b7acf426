"""Loading a campaign: what a valid file becomes, and what is said of one that is not."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_llem.backends.registry import registered
from pytest_llem.campaign import document, fragments, notes
from pytest_llem.campaign.loader import CampaignError, LoadedCampaign, load

Load = Callable[..., LoadedCampaign]
BACKENDS = {name: registered()[name] for name in ("pytorch", "tensorrt", "vllm")}

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
        return load(tmp_path / "campaigns" / "demo.yaml", tmp_path, overrides, backends=BACKENDS)

    return load_written


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
            ("grid.models: [a]", ("grid", "models"), ("a",)),
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
            (
                "window: {<<: [{passes: 4}, {passes: 5, seconds: 1}]}",
                ("window",),
                {"seconds": 1.0, "passes": 4},
            ),
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

    @pytest.mark.key("configs", "experiments.config", "experiments.overrides", "experiments.inline")
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

    def test_prompt_files_start_at_the_file_that_names_them(self, load_text: Load) -> None:
        """A prompts file is named from the root folder, wherever the campaign lies."""
        experiments = "experiments: [{prompts_file: ../p.txt}, {prompts_file: /p.txt}]"
        fragments = load_text(f"campaign_name: demo\nmodel: gpt2\n{experiments}\n").fragments
        assert [each.fragment["prompts_file"] for each in fragments] == ["p.txt", "/p.txt"]

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
        assert load_text(f"campaign_name: demo\n{yaml}\n").campaign.grid is not None

    def test_without_libyaml_files_read_the_same(
        self, load_text: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """PyYAML's own parser stands in where libyaml is missing."""
        expected = load_text(GRID).campaign
        monkeypatch.setattr(document, "_LOADER", yaml.SafeLoader)
        assert load_text(GRID).campaign == expected


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


class TestFiles:
    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        """A campaign that does not exist is an error like any other."""
        with pytest.raises(CampaignError, match=r"^c.yaml: does not exist$"):
            load(tmp_path / "c.yaml", tmp_path)

    def test_a_folder_is_no_campaign(self, tmp_path: Path) -> None:
        """A folder in the place of a campaign is called a folder."""
        (tmp_path / "c").mkdir()
        with pytest.raises(CampaignError, match=r"^c: is a folder, not a file$"):
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

    def test_an_experiment_file_may_extend_another(self, load_text: Load) -> None:
        """`_extends` lays a file over its base; a circle is refused."""
        text = "campaign_name: demo\nconfigs: [child.yaml]\n"
        files = {"child": "_extends: base.yaml\ndecoder: {top_k: 2}\n"}
        loaded = load_text(text, **files, base="model_name: gpt2\ndecoder: {top_k: 1, top_p: 0.5}\n")
        assert loaded.fragments[0].fragment == {"model_name": "gpt2", "decoder": {"top_k": 2, "top_p": 0.5}}
        with pytest.raises(
            CampaignError, match=r"base.yaml:1:11: _extends: campaigns/child.yaml extends itself"
        ):
            load_text(text, **files, base="_extends: child.yaml\n")

    def test_an_experiment_path_may_start_at_the_root_folder(self, load_text: Load, tmp_path: Path) -> None:
        """A path that leads nowhere from the campaign is tried from the root folder, as v1 meant it."""
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "a.yaml").write_text("model_name: gpt2\n")
        loaded = load_text("campaign_name: demo\nconfigs: [configs/a.yaml]\n")
        assert loaded.fragments[0].where == "configs/a.yaml"


class TestOptions:
    def test_an_option_sets_any_campaign_key(self, load_text: Load) -> None:
        """Keys are reached by dotted path, whether the file has them or not; values are YAML."""
        campaign = load_text(
            GRID,
            "execution.cycles=7",
            "window.passes=1e1",
            "grid.shared.decoder.temperature=[1, 0.5]",
            "isolation=null",
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
        others = {
            load_text(text, base="batch_size: 2").sha256,
            load_text(text, "model=gpt3", base="batch_size: 1").sha256,
        }
        monkeypatch.setenv("SEED", "2")
        others.add(load_text(text, base="batch_size: 1").sha256)
        assert len(others | {digest}) == 4


class TestNotes:
    def test_a_key_without_effect_yet_says_what_it_waits_for(
        self, load_text: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Keys that wait for one thing share a note; a value that is the default needs none."""
        waiting = {"cost.price_per_kwh": "costs", "defaults.prefix_reuse": "a cache"} | {
            f"daemon.{name}": "the daemon" for name in ("at", "interval", "quiet")
        }
        for module in (notes, fragments):
            monkeypatch.setattr(module, "NOT_YET", waiting)
        loaded = load_text(
            GRID
            + "    prefix_reuse: [forbid, allow]\n"
            + "daemon: {at: 02:00, interval: 6h, quiet: true}\ncost: {price_per_kwh: 0.3}\n"
        )
        assert loaded.notes == (
            "daemon.at, daemon.interval have no effect yet: they come with the daemon",
            "cost.price_per_kwh has no effect yet: it comes with costs",
            "prefix_reuse has no effect yet: it comes with a cache",
        )

    def test_a_plain_campaign_has_no_notes(self, load_text: Load) -> None:
        """A campaign that sets nothing special says nothing special."""
        assert load_text(GRID).notes == ()
