"""Models from a hub: real sessions, the real engine and the hub's own client over real HTTP.

Only the far end is ours: `standin.hub` serves folders the way the hub does.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hub_sessions import assert_refused, begun, effective, write
from runs import events, results_of
from standin.hub import Hub, Repository, commit
from standin.models import FILES, SENTENCES, TEXT_FILES, WEIGHTS

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


@pytest.mark.usefixtures("hub")
def test_the_service_that_asks_the_hub_is_started_like_any_other(pytester: pytest.Pytester) -> None:
    """Its start is an event, is charged to the first experiment, and gives a cold start its new service."""
    write(pytester.path, models="[org/tiny, org/small]")
    cold = ("force_cold_start", "restart_container")
    options = [f"--campaign-set=cold_start.{key}=true" for key in cold]
    pytester.runpytest_subprocess("--campaign=c.yaml", *options).assert_outcomes(passed=2)
    (started,), (renewed,) = events(pytester.path, "service_started"), events(pytester.path, "renewed")
    took_s = [result["service_start_s"] for result in results_of(pytester.path)]
    assert took_s == [started["took_s"], renewed["took_s"]]


def test_a_terminal_shows_what_is_fetched(pytester: pytest.Pytester, hub: Hub) -> None:
    """While a service starts, and a model is checked and fetched, a terminal says so; the line goes away again."""
    write(pytester.path)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest", "--campaign=c.yaml", "--campaign-fetch"]
    session = subprocess.Popen(command, cwd=pytester.path, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output = read_all(ours)
    assert session.wait() == pytest.ExitCode.OK
    assert re.search(r"\rservice pytorch: starting *\r +\r", output)
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


def test_a_service_that_does_not_come_up(pytester: pytest.Pytester, hub: Hub, fruitless: Path) -> None:
    """Without the worker that is to ask the hub the session ends with the reason, which is in the journal too."""
    write(pytester.path)
    python = f"--campaign-set=services.pytorch.python={fruitless}"
    done = pytester.runpytest_subprocess("--campaign=c.yaml", python)
    reason = f"the worker of pytorch ({fruitless}) ended before it answered"
    assert_refused(pytester.path, done, re.escape(reason))
    assert [event["problem"] for event in events(pytester.path, "service_started")] == [reason]
    assert hub.asked == []


def test_a_docker_engine_that_is_gone_before_the_hub_is_asked(pytester: pytest.Pytester, hub: Hub) -> None:
    """It is waited for as before an experiment; then the session ends, all is pending, and it says what to type."""
    pytester.makeconftest(
        """
        from pytest_llem.executors.health import Patience
        from pytest_llem.executors.local import LocalExecutor
        from pytest_llem.runner import Runner

        LocalExecutor.unavailable = lambda self: "no Docker engine answers: start it"  # as if it needed one
        Runner.__init__.__kwdefaults__["patience"] = Patience(host_s=0.2)
        """
    )
    write(pytester.path)
    done = pytester.runpytest_subprocess("--campaign=c.yaml")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(
        [
            "1 experiments remain: pytest --campaign=c.yaml --lf",
            "*no Docker engine answers: start it; waited 0.2 s for it. The rest is pending: go on with --lf*",
        ]
    )
    assert events(pytester.path, "running") == results_of(pytester.path) == []
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
