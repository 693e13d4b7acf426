"""The `openai` backend at a real server: vLLM's own, with a small model of random weights on the CPU."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_llem.backends.application import prove
from pytest_llem.backends.base import EngineError
from pytest_llem.backends.openai.engine import ServerEngine, load
from pytest_llem.records import Configuration
from runs import results_of, rows
from standin.models import make_tokenizer

ARCHITECTURE = Path(__file__).parents[2] / "campaigns" / "models" / "tiny-llama" / "config.json"
MAX_MODEL_LEN, VOCABULARY = 512, 8192
START_S = 300


class VllmServer(NamedTuple):
    """A server that answers: its process, its address, and the folder of its model."""

    process: subprocess.Popen[bytes]
    base_url: str
    model: Path


@pytest.fixture(scope="module")
def server(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """Start a server, which takes a minute."""
    model = tmp_path_factory.mktemp("model")
    shutil.copy(ARCHITECTURE, model)
    make_tokenizer(model)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [str(vllm_python), "-m", "vllm.entrypoints.openai.api_server", "--load-format=dummy"]
    command += [f"--model={model}", "--served-model-name=tiny", "--host=127.0.0.1", f"--port={port}"]
    command += [f"--max-model-len={MAX_MODEL_LEN}", "--max-num-seqs=8", "--enforce-eager"]
    command += ["--dtype=float32", "--enable-prompt-tokens-details"]
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        _wait_until_it_answers(process, port, log)
        yield VllmServer(process, f"http://127.0.0.1:{port}/v1", model)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        assert process.poll() is None, log.read_text()[-4000:]
        time.sleep(0.5)
    pytest.fail(f"the server did not answer within {START_S} s: {log.read_text()[-4000:]}")


def wanted(server: VllmServer, **settings: Any) -> Configuration:
    """Return a configuration; what is no field of it is a parameter of the engine."""
    own = {name: settings.pop(name) for name in list(settings) if name in Configuration.model_fields}
    section: dict[str, Any] = {
        "base_url": server.base_url,
        "model": "tiny",
        "api_key_env": None,
        "concurrency": 4,
    }
    section |= {
        "prompt_form": "token_ids",
        "vocabulary_size": None,
        "timeout_seconds": 60.0,
        "extra_body": {},
    }
    return Configuration.model_validate(
        {"model_name": f"random:{server.model}", "backend": "openai", "max_output_tokens": 8}
        | {"parameters": section | settings}
        | own
    )


def loaded(server: VllmServer, configuration: Configuration) -> ServerEngine:
    return load(configuration, str(server.model))


def prompts(number: int, length: int = 24, first: int = 10) -> list[list[int]]:
    return [[first + (place * 37 + position) % 4000 for position in range(length)] for place in range(number)]


def test_counts_and_times(server: VllmServer) -> None:
    """Prompts arrive as the ids that they are; each token has a time; what the server says is reported."""
    configuration = wanted(server, streaming=True, extra_body={"return_token_ids": True})
    engine = loaded(server, configuration)
    report = engine.run_pass(prompts(6), configuration, lambda: None)

    assert engine.vocabulary_size == VOCABULARY
    assert engine.special_token_ids == {0, 1, 2}
    for request in report.requests:
        assert (request.prompt_tokens, request.output_tokens) == (24, 8)
        assert request.token_s is not None
        assert len(request.token_s) == 8
        assert request.submitted_s < request.token_s[0] <= request.token_s[-1] == request.completed_s
        assert all(later >= sooner for sooner, later in itertools.pairwise(request.token_s))
    effective = prove(engine, configuration).effective
    assert (
        effective.items()
        >= {
            "model": "tiny",
            "max_model_len": MAX_MODEL_LEN,
            "owned_by": "vllm",
            "output_length": "exact",
            "max_output_tokens": 8,
        }.items()
    )
    assert effective["server_version"]


def test_cached_tokens_are_counted(server: VllmServer) -> None:
    """A prompt that was served before comes from the server's prefix cache where it may, and the count says so."""
    forbidden, allowed = wanted(server), wanted(server, prefix_reuse="allow")
    engine = loaded(server, forbidden)
    again = prompts(2, length=300, first=4100)
    reports = [engine.run_pass(again, one, lambda: None) for one in (forbidden, forbidden, allowed, allowed)]
    cached = [[request.cached_tokens for request in report.requests] for report in reports]

    assert cached[:3] == [[0, 0]] * 3
    assert min(tokens or 0 for tokens in cached[3]) >= 128


def test_texts(server: VllmServer) -> None:
    """The server's tokenizer makes ids of texts, and with prompt_form: text it is sent the texts themselves."""
    text = "the quick brown fox jumps over the lazy dog"
    as_ids, as_text = wanted(server), wanted(server, prompt_form="text")
    (ids,) = loaded(server, as_ids).tokenize([text])
    by_ids = loaded(server, as_ids).run_pass([ids], as_ids, lambda: None)
    engine = loaded(server, as_text)
    by_text = engine.run_pass(engine.tokenize([text]), as_text, lambda: None)

    assert len(ids) > 1
    assert max(ids) < 300
    assert by_ids.requests[0].prompt_tokens == by_text.requests[0].prompt_tokens == len(ids)


def test_a_prompt_that_is_too_long(server: VllmServer) -> None:
    """What the server refuses is told in its own words."""
    configuration = wanted(server)
    with pytest.raises(EngineError, match=rf"the server refuses the request \(400\): .*{MAX_MODEL_LEN}"):
        loaded(server, configuration).run_pass(prompts(1, MAX_MODEL_LEN + 1), configuration, lambda: None)


def test_an_id_that_is_none(server: VllmServer) -> None:
    """An id outside the vocabulary is refused by the server, and not counted as served."""
    configuration = wanted(server, vocabulary_size=VOCABULARY * 2)
    with pytest.raises(EngineError, match=r"the server refuses the request \(400\): .*vocab"):
        loaded(server, configuration).run_pass([[VOCABULARY + 5] * 4], configuration, lambda: None)


CAMPAIGN = """
campaign_name: server
model: "random:{model}"
defaults:
  max_input_tokens: 32
  max_output_tokens: 8
  num_input_prompts: 12
  streaming: true
  warmup: {{convergence_detection: false}}
  baseline: {{enabled: false}}
window: {{seconds: 1, passes: 2}}
grid:
  backends: [openai]
  shared:
    batch_size: [1, 4]
  backend_overrides:
    openai: {{base_url: "{base_url}", model: tiny}}
experiments:
  - {{config_name: clients, backend: openai, load: {{mode: closed, concurrency: 4}},
     openai: {{base_url: "{base_url}", model: tiny}}}}
execution: {{cycles: 2, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}}
"""


def test_a_campaign(server: VllmServer, pytester: pytest.Pytester) -> None:
    """A whole campaign at the server has TTFT, TPOT, ITL and throughput of each configuration, in file and table."""
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "server.yaml").write_text(CAMPAIGN.format(model=server.model, base_url=server.base_url))
    done = pytester.runpytest_subprocess("--campaign=server.yaml")
    done.assert_outcomes(passed=6)
    for result in results_of(pytester.path):
        measurement = result["measurement"]
        metrics = {name: quantity["value"] for name, quantity in measurement["metrics"].items()}
        assert metrics["ttft_ms_mean"] > 0
        assert 0 < metrics["tpot_ms_mean"] < metrics["e2e_latency_ms_mean"]
        assert metrics["output_tokens_per_second"] > 0
        assert metrics["flops_per_token"] > 0
        assert measurement["prompt_tokens"] % 32 == 0
        assert measurement["cached_tokens"] == 0
        assert "fp_precision" in measurement["unconfirmed"]
    by_batch = {row["axis:batch_size"]: float(row["mean_running_batch"]) for row in rows(pytester.path)}
    assert by_batch["1"] <= 1 < by_batch["4"] <= 4
    done.stdout.fnmatch_lines(["*energy*throughput*e2e latency*TTFT*", "openai clients *2 of 2*n/a*"])


def test_the_server_is_killed(server: VllmServer, pytester: pytest.Pytester) -> None:
    """A server that dies under the load ends that experiment, and the next one finds none. Last: it is gone then."""
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "server.yaml").write_text(CAMPAIGN.format(model=server.model, base_url=server.base_url))
    (pytester.path / "conftest.py").write_text(
        "import os, signal, threading\n"
        "def pytest_runtest_logstart(nodeid, location):\n"
        f"    threading.Timer(3, lambda: os.killpg({server.process.pid}, signal.SIGKILL)).start()\n"
    )
    options = ("--campaign-set=window.seconds=60", "--campaign-set=execution.cycles=1")
    pytester.runpytest_subprocess("--campaign=server.yaml", *options).assert_outcomes(failed=3)
    failures = [result["failure"] for result in results_of(pytester.path)]
    assert [failure["kind"] for failure in failures] == ["crashed", "engine_start", "engine_start"]
    assert failures[0]["message"].startswith("the server broke the ")
    assert failures[1]["message"].startswith(f"no server answers at {server.base_url}")
