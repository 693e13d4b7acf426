"""What is said of a campaign that is not valid: for each mistake its place, its key, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.backends.registry import registered
from pytest_llem.campaign.loader import CampaignError, load

BACKENDS = {name: registered()[name] for name in ("pytorch", "tensorrt", "vllm")}

GRID = """\
campaign_name: demo
model: gpt2
grid:
  backends: [pytorch, vllm]
  shared:
    batch_size: [1, 8]
    decoder.temperature: [0, 0.7]
"""


def cases(table: str) -> list[list[str]]:
    """Return the pairs of a table: one line of YAML, and indented below it what is said of it."""
    pairs: list[list[str]] = []
    for line in table.strip("\n").splitlines():
        if line.startswith("    "):
            pairs[-1][1] = f"{pairs[-1][1]} {line.strip()}".strip()
        else:
            pairs.append([line.replace(r"\n", "\n"), ""])
    return pairs


def problems(folder: Path, text: str, *overrides: str, **files: str) -> list[str]:
    """Load a campaign that is not valid and return the lines of its error."""
    for name, content in {**files, "demo": text}.items():
        (folder / f"{name}.yaml").write_text(content)
    with pytest.raises(CampaignError) as caught:
        load(folder / "demo.yaml", folder, overrides, backends=BACKENDS)
    assert len(caught.value.problems) == len(str(caught.value).splitlines())
    return str(caught.value).splitlines()


KEYS = r"""
exection: {}
    8:1: exection: unknown key; did you mean 'execution'?
execution: 5
    8:12: execution: expected a mapping with keys such as cycles, structure, seed, warmup_prompts, found
    the number 5
execution: {cycles: three}
    8:21: execution.cycles: expected a whole number, found the text 'three'
execution: {cycles: "3"}
    8:21: execution.cycles: expected a whole number, found the text '3'; remove the quotes
execution: {cycles: yes}
    8:21: execution.cycles: expected a whole number, found the boolean yes
execution: {cycles: 2.5}
    8:21: execution.cycles: expected a whole number, found the number 2.5
execution: {cycles: 0}
    8:21: execution.cycles: expected at least 1, found the number 0
execution: {cycles: [1]}
    8:21: execution.cycles: expected a whole number, found a list
execution: {cycles: 010}
    8:21: execution.cycles: expected a whole number, found the text '010'
execution: {conditioning: 1}
    8:27: execution.conditioning: expected true or false, found the number 1
execution: {gap: thermic}
    8:18: execution.gap: expected 'fixed' or 'thermal', found the text 'thermic'; did you mean
    'thermal'?
window: {seconds: .inf}
    8:19: window.seconds: expected a finite number, found the number .inf
window: {seconds: -1}
    8:19: window.seconds: expected at least 0, found the number -1
campaign_name: on
    1:16: campaign_name: expected text, found the boolean on; quote it: "on"
campaign_name: 1e3
    1:16: campaign_name: expected text, found the number 1e3; quote it: "1e3"
campaign_name: 2025-01-31
    1:16: campaign_name: the date 2025-01-31 is no value; quote it if text is meant: "2025-01-31"
campaign_name: a/b
    1:16: campaign_name: 'a/b' cannot name a file: write some text without slashes and control
    characters
campaign_name: ..
    1:16: campaign_name: '..' cannot name a file: write some text without slashes and control characters
campaign_name: "a\tb"
    1:16: campaign_name: 'a\tb' cannot name a file: write some text without slashes and control
    characters
campaign_name: ""
    1:16: campaign_name: '' cannot name a file: write some text without slashes and control characters
campaign_name:
    1:15: campaign_name: expected text, found nothing
model: "\b"
    7:8: model: '\x08' names no model: write a hub id, a folder, or random: and one of them
daemon: {at: 25:00}
    8:14: daemon.at: '25:00' is no time of day: write HH:MM, such as 02:30
daemon: {interval: 6}
    8:20: daemon.interval: expected text, found the number 6; quote it: "6"
daemon: {interval: 6 hours}
    8:20: daemon.interval: '6 hours' is no duration: write a whole number with s, m, h or d, such as 90s
    or 6h
notify: {webhook_url: example.org}
    8:23: notify.webhook_url: this is no address: write one that starts with https:// or http://,
    without blanks, others than ASCII letters as %XX
notify: {on: [complete, failed]}
    8:25: notify.on[1]: expected 'complete' or 'failure', found the text 'failed'; did you mean
    'failure'?
group_by: backend
    8:11: group_by: expected a list, found the text 'backend'; write [backend]
services: {pytorhc: {}}
    8:12: services.pytorhc: unknown key; did you mean 'pytorch'?
services: {pytorch: {pyhton: x}}
    8:22: services.pytorch.pyhton: unknown key; did you mean 'python'?
expect: {energy_per_token_j: {max: 1}}
    8:10: expect.energy_per_token_j: no such metric; did you mean 'energy_per_total_token_j'?
expect: {energy_j: {}}
    8:20: expect.energy_j: a budget needs max or min
expect: {energy_j: {max: 1, min: 2}}
    8:20: expect.energy_j: max is below min
io: {results_dir: ../elsewhere}
    8:19: io.results_dir: ../elsewhere leads out of the root folder; write a path below it, or an
    absolute one
io: {results_dir: ~/results}
    8:19: io.results_dir: '~' is not expanded; write ${HOME} or the whole path
defaults: [1]
    8:11: defaults: expected a mapping, found a list
defaults: {decoder: {temprature: 0}}
    8:22: defaults.decoder.temprature: unknown key; did you mean 'temperature'?
defaults: {temperature: 0}
    8:12: defaults.temperature: unknown key; did you mean 'decoder.temperature'?
defaults: {fp_precision: fp16}
    8:26: defaults.fp_precision: expected 'float32', 'float16' or 'bfloat16', found the text 'fp16'
defaults: {backend: vlm}
    8:21: defaults.backend: expected 'pytorch', 'tensorrt' or 'vllm', found the text 'vlm'; did you mean
    'vllm'?
defaults: {parameters: {}}
    8:12: defaults.parameters: unknown key
defaults: {load: {mode: burst}}
    8:25: defaults.load.mode: expected 'batch', 'closed', 'constant' or 'poisson', found the text 'burst'
configs: base.yaml
    8:10: configs: expected a list, found the text 'base.yaml'; write [base.yaml]
configs: [1]
    8:11: configs[0]: expected text, the path of an experiment file, found the number 1; quote it: "1"
configs: [nowhere.yaml]
    8:11: configs[0]: nowhere.yaml does not exist
configs: [../x.yaml]
    8:11: configs[0]: ../x.yaml lies outside the root folder {root}
configs: ["a\0b"]
    8:11: configs[0]: 'a\x00b' is no path
configs: [.]
    8:11: configs[0]: . is a folder, not a file
experiments: [{}]
    8:15: experiments[0]: expected `config` with a file, or the keys of an experiment, found a mapping
experiments: [x.yaml]
    8:15: experiments[0]: expected `config` with a file, or the keys of an experiment, found the text
    'x.yaml'
experiments: [{overrides: {}}]
    8:15: experiments[0].config: expected text, the path of an experiment file, found nothing
experiments: [{config_name: a/b}]
    8:29: experiments[0].config_name: 'a/b' cannot name a file: write some text without slashes and
    control characters
"""

AXES = r"""
shared: [1]
    5:11: grid.shared: expected a mapping, found a list
shared: {fp_precision: float16}
    5:26: grid.shared.fp_precision: expected a list, found the text 'float16'; write [float16]
shared: {batch_size: []}
    5:24: grid.shared.batch_size: an axis needs at least one value
shared: {batch_size: [1, two]}
    5:28: grid.shared.batch_size[1]: expected a whole number, found the text 'two'
shared: {pytorch.batch_size: [1]}
    5:12: grid.shared.pytorch.batch_size: pytorch is not in grid.backends
shared: {batchsize: [1]}
    5:12: grid.shared.batchsize: unknown key; did you mean 'batch_size'?
shared: {model: [a]}
    5:12: grid.shared.model: not a shared axis; write grid.models
shared: {decoder: [a]}
    5:12: grid.shared.decoder: a section is no axis; write one such as decoder.preset, or a bundle
shared: {gpus: [1]}
    5:19: grid.shared.gpus[0]: expected a list, found the number 1; write [1]
shared: {batch_size: [1]}\n  axes: {}
    6:3: grid.axes: another name for grid.shared; put all axes into one of them
bundles: {size: {}}
    5:13: grid.bundles.size: a bundle needs a label with what it sets
bundles: {size: {s: {max_output: 8}}}
    5:24: grid.bundles.size.s.max_output: unknown key; did you mean 'max_output_tokens'?
backend_overrides: {vlm: {}}
    5:23: grid.backend_overrides.vlm: no such backend is installed; did you mean 'vllm'?
backend_overrides: {vllm: {max_seqs: 1}}
    5:30: grid.backend_overrides.vllm.max_seqs: unknown key; did you mean 'max_num_seqs'?
backend_overrides: {vllm: {max_num_seqs: [1, a]}}
    5:48: grid.backend_overrides.vllm.max_num_seqs[1]: expected a whole number, found the text 'a'
exclude: [{}]
    5:13: grid.exclude[0]: an entry needs an axis with the values to drop
exclude: [{backend: vlm}]
    5:23: grid.exclude[0].backend: expected one of vllm, found the text 'vlm'; did you mean 'vllm'?
exclude: [{fp_precision: [fp16]}]
    5:29: grid.exclude[0].fp_precision[0]: expected 'float32', 'float16' or 'bfloat16', found the text
    'fp16'
"""

OPTIONS = r"""
execution.cycles
    execution.cycles: write KEY=VALUE, such as execution.cycles=7
execution.cycles=x
    execution.cycles: execution.cycles: expected a whole number, found the text 'x'
execution.cycels=3
    execution.cycels: execution.cycels: unknown key; did you mean 'cycles'?
exection.cycles=3
    exection.cycles: exection.cycles: unknown key; did you mean 'execution'?
max_output_token=3
    max_output_token: max_output_token: unknown key; did you mean 'max_output_tokens'?
max_output_tokens=0
    max_output_tokens: max_output_tokens: expected at least 1, found the number 0
window.seconds=[
    window.seconds: not valid YAML: did not find expected node content, while parsing a
    flow node
backend=vllm
    backend: backend: not as an option; set grid.backends
dataset.nmae=x
    dataset.nmae: dataset.nmae: unknown key; did you mean 'name'?
grid.backends.0=vllm
    grid.backends.0: only a whole list can be set; leave out '.0'
"""

V1 = r"""
num_processes: 2
    2:1: num_processes: not supported: several replicas of a model are not measured as one experiment;
    remove it
sharding: {strategy: tensor_parallel, num_shards: 2}
    2:39: sharding.num_shards: this backend does not shard a model that way; write
    vllm.tensor_parallel_size or tensorrt.tensor_parallel_size
adapter: some/lora
    2:1: adapter: not supported: adapters are not loaded; name a model into which it is merged as
    model_name
min_output_tokens: 4
    2:1: min_output_tokens: write output_length: exact (max_output_tokens, always) or natural (at most)
pytorch: {max_tokens_per_batch: 512}
    2:11: pytorch.max_tokens_per_batch: not supported: batches have no token budget here; write
    pytorch.batch_size
backend: vllm\nbatching: {strategy: static}
    3:12: batching.strategy: not a parameter of this backend; it is now pytorch.batching_strategy
batching: {stratgy: static}
    2:12: batching.stratgy: unknown key; did you mean 'pytorch.batching_strategy'?
max_new_tokens: 4\nmax_output_tokens: 4
    3:1: max_output_tokens: already set by max_new_tokens at e.yaml:2:1
"""

BROKEN = r"""
# only a comment
    : the file is empty
- a
    :1:1: expected a mapping with keys, found a list
text
    :1:1: expected a mapping with keys, found the text 'text'
a: 1\n---\nb: 2
    :2:1: a second document starts here; a file holds one
a: [1\nb: 2\n
    :2:2: not valid YAML: did not find expected ',' or ']', while parsing a flow sequence
a:\n\tb: 1
    :2:1: not valid YAML: a tab; YAML is indented with spaces
a: @b
    :1:4: not valid YAML: a value that starts with @ must be quoted
a: 1\nb: \a
    :2:4: the character '\x07' is not text
a: !!python/name:os.system x
    :1:4: a: the tag tag:yaml.org,2002:python/name:os.system means nothing here; remove it
? [1]\n: 2
    :1:3: ?: a key must be plain text
a: &x [*x]
    :1:8: the alias *x stands inside the value that it names
a: *x
    :1:4: the alias *x names no anchor before it
<<: 3
    :1:5: <<: only mappings can be merged
"""


@pytest.mark.parametrize(("yaml", "message"), cases(KEYS))
def test_a_problem_has_a_place_a_key_and_plain_words(tmp_path: Path, yaml: str, message: str) -> None:
    """Each mistake gives one line: file, line and column, the dotted key, what is wrong, what to do."""
    name = yaml.startswith("campaign_name")
    text = GRID.replace("campaign_name: demo", yaml) if name else GRID + yaml
    text = text.replace("model: gpt2\n", "", yaml.startswith("model"))
    assert problems(tmp_path, text) == [f"demo.yaml:{message.replace('{root}', str(tmp_path))}"]


@pytest.mark.parametrize(("yaml", "message"), cases(AXES))
def test_a_problem_in_a_grid_is_found_at_its_value(tmp_path: Path, yaml: str, message: str) -> None:
    """Axes, bundles, overrides and exclusions are checked where they are written."""
    text = f"campaign_name: demo\nmodel: gpt2\ngrid:\n  backends: [vllm]\n  {yaml}\n"
    assert problems(tmp_path, text) == [f"demo.yaml:{message}"]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (
            "backends: [pytorhc]",
            "3:19: grid.backends[0]: no such backend is installed; did you mean 'pytorch'?",
        ),
        ("backends: []", "3:18: grid.backends: expected at least 1 in the list, found a list"),
        ("models: [gpt2]", "3:1: grid.backends: the key is missing; name one or more"),
    ],
)
def test_a_grid_needs_backends(tmp_path: Path, yaml: str, message: str) -> None:
    """A grid says which backends it runs on, by names that are installed."""
    assert problems(tmp_path, f"campaign_name: demo\nmodel: gpt2\ngrid: {{{yaml}}}\n") == [
        f"demo.yaml:{message}"
    ]


@pytest.mark.parametrize(("option", "message"), cases(OPTIONS))
def test_a_wrong_option_is_named(tmp_path: Path, option: str, message: str) -> None:
    """A mistake in an option is placed at the option."""
    assert problems(tmp_path, GRID, option) == [f"--campaign-set {message}"]


@pytest.mark.parametrize(("yaml", "message"), cases(V1))
def test_what_cannot_be_ignored_is_refused_with_what_to_write(
    tmp_path: Path, yaml: str, message: str
) -> None:
    """A key of llenergymeasure v1 that would change what is measured is never dropped in silence."""
    found = problems(tmp_path, "campaign_name: c\nconfigs: [e.yaml]\n", e=f"model_name: m\n{yaml}\n")
    assert found == [f"e.yaml:{message}"]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        *cases(BROKEN),
        ("", ": the file is empty"),
        pytest.param("a: " + "[" * 100_000, ":1:36: nested deeper than 32 levels", id="deep flow"),
        pytest.param("- " * 100_000, ":1:67: nested deeper than 32 levels", id="deep block"),
    ],
)
def test_what_is_no_campaign_is_refused_where_it_goes_wrong(tmp_path: Path, yaml: str, message: str) -> None:
    """Broken, foreign and hostile YAML gives a place and a sentence, never a traceback."""
    text = yaml.replace(r"\t", "\t").replace(r"\a", "\a")
    assert problems(tmp_path, text)[0] == f"demo.yaml{message}"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Mistakes in the campaign, in a grid and in an experiment file come together."""
    text = GRID.replace("[1, 8]", "[x]") + "window: {passes: 0}\nconfigs: [a.yaml, b.yaml, gone.yaml]\n"
    assert problems(tmp_path, text, a="max_output_tokens: -1\n", b="backend: [\n") == [
        "demo.yaml:8:18: window.passes: expected at least 1, found the number 0",
        "a.yaml:1:20: max_output_tokens: expected at least 1, found the number -1",
        "b.yaml:2:1: not valid YAML: did not find expected node content, while parsing a flow node",
        "demo.yaml:9:27: configs[2]: gone.yaml does not exist",
        "demo.yaml:6:18: grid.shared.batch_size[0]: expected a whole number, found the text 'x'",
    ]


def test_many_problems_end_in_a_count(tmp_path: Path) -> None:
    """An axis of a thousand wrong values does not fill the screen."""
    (tmp_path / "c.yaml").write_text(GRID.replace("[1, 8]", str(["x"] * 1000)))
    with pytest.raises(CampaignError) as caught:
        load(tmp_path / "c.yaml", tmp_path, backends=BACKENDS)
    assert len(caught.value.problems) == 1000
    assert str(caught.value).endswith("\nand 950 more")


def test_a_campaign_without_experiments_is_told_what_to_add(tmp_path: Path) -> None:
    """Without grid, configs and experiments there is nothing to measure."""
    assert problems(tmp_path, "campaign_name: demo\nmodel: gpt2\n") == [
        "demo.yaml:1:1: nothing to measure: add `grid: {backends: [pytorch]}`, or `experiments`, or `configs`"
    ]


def test_a_campaign_without_a_model_is_told_where_to_write_it(tmp_path: Path) -> None:
    """Grid and experiments both say that they lack a model."""
    text = "campaign_name: demo\ngrid: {backends: [vllm]}\nexperiments: [{batch_size: 1}]\n"
    add = "add `model:` with a hub id or a folder"
    assert problems(tmp_path, text) == [
        f"demo.yaml:2:1: grid: no model is given; {add}, or grid.models",
        f"demo.yaml:3:15: model_name: no model is given; write it here, or {add}",
    ]


def test_an_experiment_file_is_no_campaign(tmp_path: Path) -> None:
    """An experiment file given as a campaign is recognised, and the other way round."""
    assert problems(tmp_path, "config_name: a\nmodel_name: gpt2\n")[-2] == (
        "demo.yaml:1:1: campaign_name: the key is missing; this looks like an experiment file: name it "
        "under `configs` of a campaign"
    )
    assert problems(tmp_path, GRID + "configs: [base.yaml]", base=GRID) == [
        "base.yaml:1:1: this is a campaign; an experiment file is expected"
    ]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("window: {passes: 1, passes: 2}", "8:21: window.passes: written twice; first at demo.yaml:8:10"),
        (
            "defaults: {decoder: {top_k: 1}, decoder.top_k: 2}",
            "8:33: defaults.decoder.top_k: already set by defaults.decoder.top_k at demo.yaml:8:22",
        ),
        ("grid.shared: {}", "8:1: grid.shared: already set at demo.yaml:5:3"),
    ],
)
def test_equal_keys_are_refused_with_both_places(tmp_path: Path, yaml: str, message: str) -> None:
    """A key that is written twice, be it nested and dotted, is a problem that names the first."""
    assert problems(tmp_path, GRID + yaml) == [f"demo.yaml:{message}"]


def test_an_alias_bomb_is_refused(tmp_path: Path) -> None:
    """Aliases that would expand to a billion values are counted, not expanded."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert problems(tmp_path, "\n".join(lines)) == ["demo.yaml:5:5: a4: more than 100,000 values"]


def test_an_unset_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is neither set nor has a default is a problem where it is written."""
    monkeypatch.delenv("NOBODY", raising=False)
    assert problems(tmp_path, GRID + "execution:\n  seed: ${NOBODY}") == [
        (
            "demo.yaml:9:9: execution.seed: the environment variable NOBODY is not set; "
            "set it or write ${NOBODY:-default}"
        )
    ]


def test_keys_are_not_expanded(tmp_path: Path) -> None:
    """A reference in a key is a key that nobody knows."""
    assert problems(tmp_path, GRID + '"${A:-window}": {seconds: 1}') == [
        "demo.yaml:8:1: ${A:-window}: unknown key; did you mean 'window'?"
    ]
