"""Models and datasets from a hub: real sessions, the real engine and the hub's own client over real HTTP.

Only the far end is ours: `standin.hub` serves folders the way the hub does.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import tokenizers
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pytest_llem.worker.workload import prompts_sha256
from runs import completed, events, results_of, workers_alive
from standin.hub import Hub, Repository, commit

SENTENCES = ["the quick brown fox jumps over the lazy dog", "five boxing wizards jump quickly"]
WEIGHTS = {f"model-0000{number}-of-00004.safetensors" for number in (1, 2, 3, 4)}
TEXT_FILES = {"tokenizer.json", "tokenizer_config.json"}
FILES = WEIGHTS | TEXT_FILES | {"config.json", "generation_config.json", "model.safetensors.index.json"}
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


# --- What the hub has ---


def make_tokenizer(folder: Path) -> int:
    """Train a byte-level BPE tokenizer on a few lines and return the size of its vocabulary."""
    tokenizer = Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    wrapped.save_pretrained(folder)
    return int(tokenizer.get_vocab_size())


def make_model(folder: Path, *, layers: int = 2, max_shard_size: str = "40KB") -> Path:
    """Make a Llama of some 30,000 random weights with its tokenizer."""
    vocabulary_size = make_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size=max_shard_size)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository as they are: a sharded model, its tokenizer, and much that is not needed."""
    folder = make_model(tmp_path_factory.mktemp("tiny"))
    for name in UNWANTED:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not needed")
    return folder


@pytest.fixture(scope="module")
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


# --- Campaigns and what they leave ---


def write(root: Path, more: str = "", *, models: str = "[org/tiny]", tokens: int = 8) -> None:
    """Write a quick campaign over these models, in their order."""
    text = f"""
        campaign_name: hub
        defaults:
          max_input_tokens: {tokens}
          max_output_tokens: 2
          num_input_prompts: 2
          fp_precision: float32
          warmup: {{enabled: false}}
          pytorch: {{num_threads: 1}}
        execution:
          {{cycles: 1, structure: grouped, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}}
        window: {{seconds: 0, passes: 1}}
        grid:
          backends: [pytorch]
          models: {models}
    """
    (root / "c.yaml").write_text(textwrap.dedent(text) + textwrap.indent(textwrap.dedent(more), "  "))


def effective(root: Path, name: str) -> list[Any]:
    """Return what one parameter really was in each completed experiment, in order of time."""
    return [r["measurement"]["effective"][name] for r in results_of(root) if r["status"] == "completed"]


def by_axis(root: Path, axis: str) -> dict[Any, dict[str, Any]]:
    """Return the results by their value on an axis."""
    return {result["axes"][axis]: result for result in results_of(root)}


def begun(root: Path) -> list[datetime]:
    """Return when each experiment began."""
    return [datetime.fromisoformat(event["at"]) for event in events(root, "running")]


def assert_refused(root: Path, done: pytest.RunResult, *sentences: str) -> None:
    """Exit code 4 with exactly these sentences, and nothing was measured."""
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    shown = [line.removeprefix("ERROR: ") for line in done.errlines if line]
    assert len(shown) == len(sentences)
    for line, sentence in zip(shown, sentences, strict=True):
        assert re.fullmatch(sentence, line), line
    assert results_of(root) == []
    assert events(root, "running") == []


# --- Downloads ---


def test_a_model_is_fetched_before_it_is_measured(pytester: pytest.Pytester, hub: Hub, tiny: Path) -> None:
    """What loading takes is fetched once, before the experiment; the result says which commit it was."""
    write(pytester.path)
    pytester.runpytest_subprocess("--campaign=c.yaml").assert_outcomes(passed=1)
    assert sorted(hub.fetched()) == sorted(FILES)
    assert max(asked.at for asked in hub.asked) < begun(pytester.path)[0]
    assert effective(pytester.path, "model_revision") == [commit(tiny)]


@pytest.mark.key("defaults.model_name")
@pytest.mark.parametrize("options", [(), ("--campaign-fetch",)])
def test_when_models_are_fetched(pytester: pytest.Pytester, hub: Hub, options: tuple[str, ...]) -> None:
    """All are checked before the first experiment, and fetched then or each before its own experiment."""
    write(pytester.path, models="[org/tiny, org/small]")
    pytester.runpytest_subprocess("--campaign=c.yaml", *options).assert_outcomes(passed=2)
    first, second = begun(pytester.path)
    for name in ("org/tiny", "org/small"):
        assert min(a.at for a in hub.asked if a.path == f"/api/models/{name}") < first
    late = [asked.at for asked in hub.downloads() if asked.path.startswith("/org/small")]
    assert max(late) < (first if options else second)
    assert (min(late) < first) == bool(options)
    tiny_size, small_size = effective(pytester.path, "parameter_count")
    assert tiny_size > small_size


@pytest.mark.parametrize("condition", ["the hub is gone", "HF_HUB_OFFLINE", "the branch has moved"])
def test_a_second_session_takes_the_cache(
    pytester: pytest.Pytester, hub: Hub, condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is whole in the cache is measured without a word to the hub, so a run keeps its model."""
    write(pytester.path)
    pytester.runpytest_subprocess("--campaign=c.yaml").assert_outcomes(passed=1)
    asked_before = list(hub.asked)
    first = commit(hub.repositories["org/tiny"].revisions["main"])
    match condition:
        case "the hub is gone":
            hub.stop()
        case "HF_HUB_OFFLINE":
            monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        case _:
            hub.repositories["org/tiny"] = hub.repositories["org/small"]
    pytester.runpytest_subprocess("--campaign=c.yaml", "--campaign-fetch").assert_outcomes(passed=1)
    assert effective(pytester.path, "model_revision") == [first] * 2
    assert hub.asked == asked_before


def test_a_cache_with_a_hole_is_filled(pytester: pytest.Pytester, hub: Hub, tmp_path: Path) -> None:
    """A shard that the weights' index names and that is gone is fetched again, and nothing else."""
    write(pytester.path)
    pytester.runpytest_subprocess("--campaign=c.yaml").assert_outcomes(passed=1)
    (cached,) = (tmp_path / "cache" / "hub").glob("models--*")
    shutil.rmtree(cached / "trees")  # the client's own listing, which older ones do not keep
    (shard,) = cached.rglob("model-00003-of-00004.safetensors")
    shard.resolve().unlink()
    shard.unlink()
    pytester.runpytest_subprocess("--campaign=c.yaml").assert_outcomes(passed=1)
    assert hub.fetched()[len(FILES) :] == ["model-00003-of-00004.safetensors"]


@pytest.mark.key("pytorch.revision")
def test_revisions_are_models_of_their_own(
    pytester: pytest.Pytester, hub: Hub, tiny: Path, small: Path
) -> None:
    """Each revision of a model is fetched, loaded and named in its results."""
    hub.repositories["org/both"] = Repository({"main": tiny, "v2": small})
    write(pytester.path, "backend_overrides: {pytorch: {revision: [main, v2]}}", models="[org/both]")
    pytester.runpytest_subprocess("--campaign=c.yaml").assert_outcomes(passed=2)
    assert effective(pytester.path, "model_revision") == [commit(tiny), commit(small)]
    tiny_size, small_size = effective(pytester.path, "parameter_count")
    assert tiny_size > small_size


def test_random_weights_take_the_architecture_alone(pytester: pytest.Pytester, hub: Hub, tiny: Path) -> None:
    """`random:` fetches config.json, for prompts from texts the tokenizer too, and never weights."""
    write(pytester.path, models="['random:org/tiny']")
    (pytester.path / "prompts.txt").write_text("\n".join(SENTENCES))
    pytester.runpytest_subprocess("--campaign=c.yaml").assert_outcomes(passed=1)
    assert hub.fetched() == ["config.json"]
    texts = "--campaign-set=defaults.prompts_file=prompts.txt"
    pytester.runpytest_subprocess("--campaign=c.yaml", texts).assert_outcomes(passed=1)
    assert set(hub.fetched()) >= TEXT_FILES
    assert not set(hub.fetched()) & WEIGHTS
    assert effective(pytester.path, "weights") == ["random"] * 2
    assert effective(pytester.path, "model_revision") == [commit(tiny)] * 2


def test_a_terminal_shows_what_is_fetched(pytester: pytest.Pytester, hub: Hub) -> None:
    """While a model is checked and fetched, a terminal says so, and the line goes away again."""
    write(pytester.path)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest", "--campaign=c.yaml", "--campaign-fetch"]
    session = subprocess.Popen(command, cwd=pytester.path, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output = read_all(ours)
    assert session.wait() == pytest.ExitCode.OK
    assert re.search(r"\rhub: checking org/tiny *\rhub: fetching org/tiny *\r +\r", output)


def read_all(terminal: int) -> str:
    """Return all that is written to a terminal until its last writer has gone."""
    output = b""
    while True:
        try:
            output += os.read(terminal, 4096)
        except OSError:  # how Linux says that the other end is closed
            os.close(terminal)
            return output.decode()


# --- Refusals ---


@pytest.mark.parametrize("options", [(), ("--campaign-fetch",)])
def test_what_cannot_be_had_is_said_at_once(
    pytester: pytest.Pytester, hub: Hub, tiny: Path, small: Path, options: tuple[str, ...]
) -> None:
    """One sentence a model before anything is measured or downloaded, exit code 4."""
    bare, unarmed = pytester.mkdir("bare"), pytester.path / "unarmed"
    (bare / "README.md").write_text("nothing here")
    shutil.copytree(small, unarmed)
    (unarmed / "model.safetensors").rename(unarmed / "model.onnx")
    huge = {"model-00001-of-00004.safetensors": 10**18}
    hub.repositories |= {
        "org/gated": Repository({"main": tiny}, token="let me in"),
        "org/bare": Repository({"main": bare}),
        "org/unarmed": Repository({"main": unarmed}),
        "org/huge": Repository({"main": tiny}, declared_bytes=huge),
    }
    names = "[org/tiny, org/missing, org/gated, org/bare, org/unarmed, no/hub/id, org/huge]"
    write(pytester.path, models=names)
    done = pytester.runpytest_subprocess("--campaign=c.yaml", *options)
    assert_refused(
        pytester.path,
        done,
        r"org/missing is neither a local folder nor a model on the hub \(a private one needs HF_TOKEN\)",
        r"org/gated is gated: accept its licence on the hub and set HF_TOKEN",
        r"org/bare has no config\.json: no engine here can load it",
        r"org/unarmed has no weights in safetensors or PyTorch's format",
        r"no/hub/id is neither a local folder nor a hub id \(owner/name\)",
        r"org/tiny and org/huge: 1000000000\.0 GB to download, and the disk of .*/cache/hub has [\d.]+ GB free:"
        r" free some space or set HF_HOME to a larger disk",
    )
    assert hub.downloads() == []


def test_models_must_fit_together(pytester: pytest.Pytester, hub: Hub, tiny: Path, tmp_path: Path) -> None:
    """Two models that fit alone and not beside each other are refused before the first experiment."""
    most = {"model-00001-of-00004.safetensors": shutil.disk_usage(tmp_path).free * 2 // 3}
    hub.repositories |= {
        name: Repository({"main": tiny}, declared_bytes=most) for name in ("org/one", "org/two")
    }
    write(pytester.path, models="[org/one, org/two]")
    done = pytester.runpytest_subprocess("--campaign=c.yaml")
    assert_refused(pytester.path, done, r"org/one and org/two: [\d.]+ GB to download, and the disk of .*")


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("no such revision", r"org/tiny has no revision v9: name a branch, tag or commit"),
        (
            "gone",
            r"org/tiny is not in the cache, and the hub cannot be reached: ConnectError: .*Connection refused",
        ),
        ("broken", r"org/tiny is not in the cache, and the hub answers 500: try again later"),
        ("offline", r"org/tiny is not in the cache, and HF_HUB_OFFLINE forbids to fetch it: unset it once"),
    ],
)
def test_a_hub_that_does_not_help(
    pytester: pytest.Pytester, hub: Hub, condition: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps the hub from giving a model is said in one sentence before anything is measured."""
    revision = "v9" if condition == "no such revision" else "main"
    write(pytester.path, f"backend_overrides: {{pytorch: {{revision: {revision}}}}}")
    if condition == "gone":
        hub.stop()
    elif condition == "broken":
        hub.broken = True
    elif condition == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert_refused(pytester.path, pytester.runpytest_subprocess("--campaign=c.yaml"), sentence)


def test_a_refusal_reaches_the_controller_of_xdist(pytester: pytest.Pytester, hub: Hub) -> None:
    """Under -n 1 the sentence ends the session too, and nothing is measured."""
    write(pytester.path, models="[org/missing]")
    done = pytester.runpytest_subprocess("--campaign=c.yaml", "-n", "1")
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.stdout.fnmatch_lines(["*org/missing is neither a local folder nor a model on the hub*"])
    assert results_of(pytester.path) == []


def test_a_service_that_does_not_come_up(pytester: pytest.Pytester, hub: Hub) -> None:
    """Without the interpreter that is to ask the hub the session ends with the reason."""
    write(pytester.path)
    python = "--campaign-set=services.pytorch.python=/no/such/python"
    done = pytester.runpytest_subprocess("--campaign=c.yaml", python)
    assert_refused(pytester.path, done, r"services\.pytorch\.python: /no/such/python does not start: .*")
    assert hub.asked == []


def test_the_token_opens_and_is_never_shown(
    pytester: pytest.Pytester, hub: Hub, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_TOKEN goes to the hub, and into no output and no file, whether it opens a gated model or not."""
    right, wrong = "hf_the_right_secret", "hf_the_wrong_secret"
    hub.repositories["org/gated"] = Repository({"main": tiny}, token=right)
    write(pytester.path, models="[org/gated]")
    monkeypatch.setenv("HF_TOKEN", wrong)
    refused = pytester.runpytest_subprocess("--campaign=c.yaml", "-vv")
    assert_refused(
        pytester.path, refused, "org/gated is gated: accept its licence on the hub and set HF_TOKEN"
    )
    monkeypatch.setenv("HF_TOKEN", right)
    opened = pytester.runpytest_subprocess("--campaign=c.yaml", "-vv")
    opened.assert_outcomes(passed=1)
    assert {asked.token for asked in hub.downloads()} == {right}
    shown = [*refused.outlines, *refused.errlines, *opened.outlines, *opened.errlines]
    shown += [path.read_text(errors="replace") for path in pytester.path.rglob("*") if path.is_file()]
    assert not [text for text in shown if right in text or wrong in text]


def test_a_download_that_breaks_off_fails_its_experiment(
    pytester: pytest.Pytester, hub: Hub, tiny: Path
) -> None:
    """A model that the hub stops giving after the check fails with the reason, and the campaign goes on."""
    hub.repositories["org/torn"] = Repository({"main": tiny}, withheld=frozenset({"tokenizer.json"}))
    write(pytester.path, models="[org/torn, org/small]")
    pytester.runpytest_subprocess("--campaign=c.yaml").assert_outcomes(passed=1, failed=1)
    torn, _ = results_of(pytester.path)
    assert torn["failure"]["message"] == "the download of org/torn broke off: the hub answers 403"
    assert torn["failure"]["kind"] == "invalid_config"


# --- Interruptions ---


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited in vain until {what}"
        time.sleep(0.02)


def in_a_download(root: Path, hub: Hub) -> subprocess.Popen[str]:
    """Start a session and return when it is in the middle of fetching its model."""
    hub.slow = True
    command = [sys.executable, "-m", "pytest", "--campaign=c.yaml"]
    session = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    wait_until(lambda: set(hub.fetched()) >= FILES, "all downloads have begun")
    return session


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_download_ends_with_its_session(
    pytester: pytest.Pytester, hub: Hub, number: signal.Signals
) -> None:
    """Ctrl-C and SIGKILL during a download leave no process, and half a model is not taken for a whole one."""
    write(pytester.path)
    session = in_a_download(pytester.path, hub)
    family = psutil.Process(session.pid).children(recursive=True)
    assert len(family) > 1
    session.send_signal(number)
    session.communicate(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=15)
    assert alive == []
    assert workers_alive(pytester.path) == []
    assert session.returncode == (2 if number == signal.SIGINT else -signal.SIGKILL)
    hub.slow = False
    pytester.runpytest_subprocess("--campaign=c.yaml", "--lf").assert_outcomes(passed=1)
    assert len(completed(pytester.path)) == 1


def test_a_worker_that_dies_in_a_download(pytester: pytest.Pytester, hub: Hub) -> None:
    """The download ends with its worker, another worker begins it anew, and the experiment is measured."""
    write(pytester.path)
    session = in_a_download(pytester.path, hub)
    (worker,) = psutil.Process(session.pid).children()
    downloading = worker.children(recursive=True)
    worker.kill()
    wait_until(lambda: all(hub.fetched().count(name) == 2 for name in WEIGHTS), "a new download has begun")
    _, alive = psutil.wait_procs(downloading, timeout=15)
    assert alive == []
    hub.slow = False
    output, _ = session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.OK, output


# --- Prompts from texts ---


def ids_of(folder: Path, texts: list[str], tokens: int) -> list[list[int]]:
    """Return the token ids of texts, by the tokenizers library itself."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.encode(text).ids[:tokens] for text in texts]


@pytest.mark.key("defaults.prompts_file")
def test_prompts_of_a_file(pytester: pytest.Pytester, hub: Hub, small: Path) -> None:
    """The model is given each file's texts in the tokens of its own tokenizer."""
    files = {"a.txt": SENTENCES, "b.jsonl": ["a dog", "a fox and a wizard"]}
    (pytester.path / "a.txt").write_text("\n".join(files["a.txt"]))
    (pytester.path / "b.jsonl").write_text(
        "\n".join(json.dumps({"prompt": text}) for text in files["b.jsonl"])
    )
    write(pytester.path, "shared: {prompts_file: [a.txt, b.jsonl]}", models="[org/small]", tokens=5)
    pytester.runpytest_subprocess("--campaign=c.yaml").assert_outcomes(passed=2)
    found = by_axis(pytester.path, "prompts_file")
    for name, texts in files.items():
        ids = ids_of(small, texts, 5)
        assert found[name]["measurement"]["prompt_tokens"] == sum(map(len, ids))
        assert found[name]["measurement"]["prompt_sha256"] == prompts_sha256(ids)


DATA = {
    "plain": ("{name: data}", "easy-train", "question"),
    "split": ("{name: data, split: test}", "easy-test", "question"),
    "subset": ("{name: data, subset: hard}", "hard", "question"),
    "column": ("{name: data, column: answer}", "easy-train", "answer"),
    "one row": ("{name: data, sample_size: 1}", "easy-train", "question"),
    "file": ("{name: data/hard.jsonl}", "hard", "question"),
    "hub": ("{name: org/data}", "easy-train", "question"),
}


def make_dataset(folder: Path) -> Path:
    """Make a dataset of two subsets, one of them with two splits."""
    folder.mkdir()
    for part in ("easy-train", "easy-test", "hard"):
        rows = [{"answer": f"{part} yes {n}", "question": f"{part} what {n}"} for n in range(3)]
        (folder / f"{part}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    description = """\
        ---
        configs:
        - config_name: easy
          default: true
          data_files:
          - {split: train, path: easy-train.jsonl}
          - {split: test, path: easy-test.jsonl}
        - config_name: hard
          data_files:
          - {split: train, path: hard.jsonl}
        ---
    """
    (folder / "README.md").write_text(textwrap.dedent(description))
    return folder


@pytest.mark.key(
    "defaults.dataset.name",
    "defaults.dataset.split",
    "defaults.dataset.subset",
    "defaults.dataset.column",
    "defaults.dataset.sample_size",
)
def test_prompts_of_a_dataset(pytester: pytest.Pytester, hub: Hub, small: Path) -> None:
    """Each key leads to the texts that it names; a path is relative to the rootdir; the engine asks no hub."""
    hub.repositories["org/data"] = Repository({"main": make_dataset(pytester.path / "data")})
    labels = "\n".join(f"    {label}: {{dataset: {keys}}}" for label, (keys, _, _) in DATA.items())
    write(pytester.path, f"bundles:\n  data:\n{labels}\n", models="[org/small]", tokens=30)
    pytester.mkdir("below")
    os.chdir(pytester.path / "below")
    done = pytester.runpytest_subprocess("--campaign=../c.yaml", f"--rootdir={pytester.path}")
    done.assert_outcomes(passed=len(DATA))
    found = by_axis(pytester.path, "data")
    for label, result in found.items():
        _, part, column = DATA[label]
        words = "what" if column == "question" else "yes"
        texts = [f"{part} {words} {n}" for n in range(1 if label == "one row" else 2)]
        assert result["measurement"]["prompt_sha256"] == prompts_sha256(ids_of(small, texts, 30)), label
    assert max(asked.at for asked in hub.asked) < datetime.fromisoformat(found["hub"]["started_at"])


def test_a_dataset_that_cannot_be_had(pytester: pytest.Pytester, hub: Hub) -> None:
    """A dataset that is not there is said at once, like a model."""
    write(pytester.path, "shared: {dataset.name: [data/none.jsonl, org/none]}", models="[org/small]")
    done = pytester.runpytest_subprocess("--campaign=c.yaml")
    assert_refused(
        pytester.path,
        done,
        r"the dataset data/none\.jsonl cannot be had: .*",
        r"the dataset org/none cannot be had: Dataset 'org/none' doesn't exist on the Hub or cannot be accessed\.",
    )


# --- Code from the hub ---


@pytest.fixture
def with_code(small: Path, tmp_path: Path) -> Path:
    """Return a model whose class is defined beside its weights."""
    folder = tmp_path / "with-code"
    shutil.copytree(small, folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "pebble"
    config["architectures"] = ["PebbleForCausalLM"]
    config["auto_map"] = {
        "AutoConfig": "pebble.PebbleConfig",
        "AutoModelForCausalLM": "pebble.PebbleForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps(config))
    code = """\
        from transformers import LlamaConfig, LlamaForCausalLM


        class PebbleConfig(LlamaConfig):
            model_type = "pebble"


        class PebbleForCausalLM(LlamaForCausalLM):
            config_class = PebbleConfig
    """
    (folder / "pebble.py").write_text(textwrap.dedent(code))
    return folder


@pytest.mark.key("pytorch.trust_remote_code")
def test_code_from_the_hub_runs_only_when_trusted(
    pytester: pytest.Pytester, hub: Hub, with_code: Path
) -> None:
    """A model that brings its own code is refused, and loaded with it when trust_remote_code is true."""
    hub.repositories["org/pebble"] = Repository({"main": with_code})
    write(
        pytester.path,
        "backend_overrides: {pytorch: {trust_remote_code: [false, true]}}",
        models="[org/pebble]",
    )
    pytester.runpytest_subprocess("--campaign=c.yaml").assert_outcomes(passed=1, failed=1)
    refused, loaded = results_of(pytester.path)
    assert refused["failure"]["kind"] == "invalid_config"
    assert refused["failure"]["message"] == (
        "org/pebble brings code of its own: read it, and set trust_remote_code: true if you trust it"
    )
    assert loaded["measurement"]["effective"]["model_class"] == "PebbleForCausalLM"
