"""Whole campaigns at a server that is there already: what is measured, what is not, and what is said."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributions import distribute
from runs import results_of
from standin.build import write_zone
from standin.completions import CompletionsServer, serving

CAMPAIGN = """
campaign_name: server
model: beads
defaults:
  backend: openai
  max_input_tokens: 6
  max_output_tokens: 5
  num_input_prompts: 12
  warmup: {{enabled: false}}
  baseline: {{duration_sec: 0.2}}
  openai: {{base_url: "{base_url}", vocabulary_size: 100}}
window: {{seconds: 0.4, passes: 1}}
execution: {{cycles: 1, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}}
experiments:
{experiments}
"""

TOKEN_S = 0.02
POWER_W = 50.0


@pytest.fixture
def server() -> Iterator[CompletionsServer]:
    with serving() as server:
        yield server


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose CPU package uses `POWER_W`."""
    file = write_zone(tmp_path / "powercap" / "intel-rapl" / "intel-rapl:0", "package-0", 0)
    monkeypatch.setenv("LLEM_POWERCAP_ROOT", str(tmp_path / "powercap"))
    stopped, begin_s = threading.Event(), time.monotonic()

    def count() -> None:
        while not stopped.wait(0.002):
            file.with_suffix(".new").write_text(str(int((time.monotonic() - begin_s) * POWER_W * 1e6)))
            file.with_suffix(".new").replace(file)

    thread = threading.Thread(target=count)
    thread.start()
    yield
    stopped.set()
    thread.join()


def run(pytester: pytest.Pytester, server: CompletionsServer, *experiments: str, options: str = "") -> Any:
    """Run experiments, given as flow mappings of YAML, and return the session."""
    listed = "".join(f"  - {experiment}\n" for experiment in experiments)
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "server.yaml").write_text(CAMPAIGN.format(base_url=server.base_url, experiments=listed))
    return pytester.runpytest_subprocess("--campaign=server.yaml", *options.split())


def measurements(root: Path) -> dict[str, dict[str, Any]]:
    return {r["configuration"]["config_name"]: r["measurement"] for r in results_of(root)}


def test_a_server_is_measured(pytester: pytest.Pytester, server: CompletionsServer) -> None:
    """TTFT, TPOT, ITL and tokens are those of the server, for a batch and for each way in which requests come."""
    server.behaviour.token_s = TOKEN_S
    run(
        pytester,
        server,
        "{config_name: batch, openai: {concurrency: 4}}",
        "{config_name: streamed, streaming: true, openai: {concurrency: 4}}",
        "{config_name: closed, load: {mode: closed, concurrency: 3}}",
        "{config_name: steady, load: {mode: constant, rate: 40}}",
        "{config_name: random, load: {mode: poisson, rate: 40}}",
    ).assert_outcomes(passed=5)

    found = measurements(pytester.path)
    for name, measurement in found.items():
        metrics = {key: quantity["value"] for key, quantity in measurement["metrics"].items()}
        assert metrics["ttft_ms_mean"] >= 1e3 * TOKEN_S, name
        assert metrics["tpot_ms_mean"] >= 1e3 * TOKEN_S, name
        assert metrics["e2e_latency_ms_mean"] >= 5e3 * TOKEN_S, name
        assert metrics["output_tokens_per_second"] > 0, name
        assert measurement["cached_tokens"] is None
        assert (metrics["itl_ms_mean"] is not None) is (name == "streamed")
    assert found["batch"]["requests"] % 12 == 0
    assert found["batch"]["output_tokens"] == 5 * found["batch"]["requests"]
    assert found["batch"]["prompt_tokens"] == 6 * found["batch"]["requests"]
    assert 3 < found["batch"]["mean_running_batch"] <= 4
    assert found["closed"]["mean_running_batch"] == pytest.approx(3, abs=0.5)
    assert server.most_in_flight > 4


def test_the_machine_is_metered(pytester: pytest.Pytester, server: CompletionsServer, powercap: None) -> None:
    """An instrument counts the server's work on this machine; its power without the server is not known."""
    server.behaviour.token_s = TOKEN_S
    run(pytester, server, "{config_name: here}", options="--campaign-require=measured").assert_outcomes(
        passed=1
    )
    measurement = measurements(pytester.path)["here"]
    total = measurement["energy_j"]["total"]
    assert total["source"] == "rapl"
    assert total["value"] == pytest.approx(POWER_W * measurement["window_s"], rel=0.2)
    assert measurement["idle"].keys() == {"loaded"}
    assert measurement["metrics"]["energy_above_bare_idle_j"]["value"] is None


def test_an_estimate_would_be_that_of_the_client(
    pytester: pytest.Pytester, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without an instrument there is no energy: the estimate from CPU time does not see the server."""
    monkeypatch.setenv("LLEM_POWERCAP_ROOT", str(tmp_path / "nothing"))
    run(pytester, server, "{config_name: here}").assert_outcomes(passed=1)
    measurement = measurements(pytester.path)["here"]
    for quantity in (*measurement["energy_j"].values(), measurement["launch"]["load_energy_j"]):
        assert (quantity["value"], quantity["source"]) == (None, "unavailable")
    assert "the model runs in another one" in measurement["energy_j"]["total"]["note"]


def test_a_model_on_another_machine_has_no_energy(
    pytester: pytest.Pytester, toy: Path, powercap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However well this machine is metered, the energy of a model elsewhere is null, with the reason."""
    spec = (
        "from dataclasses import replace\n"
        "from abacus.spec import SPEC as ABACUS\n"
        "SPEC = replace(ABACUS, name='far', model_runs=lambda configuration: 'elsewhere', packages=())\n"
    )
    distribute(pytester.path / "lib", "far", {"far/spec.py": spec}, "far = far.spec:SPEC")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path / "lib"), os.environ["PYTHONPATH"]]))
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "far.yaml").write_text(
        "campaign_name: far\nmodel: beads\ngrid: {backends: [far, abacus]}\n"
        "defaults: {num_input_prompts: 20, warmup: {enabled: false}, baseline: {duration_sec: 0.2}}\n"
        "window: {seconds: 0.3}\n"
        "execution: {cycles: 1, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false}\n"
    )
    pytester.runpytest_subprocess("--campaign=far.yaml").assert_outcomes(passed=2)
    found = {r["configuration"]["backend"]: r["measurement"] for r in results_of(pytester.path)}
    assert found["abacus"]["energy_j"]["total"]["source"] == "rapl"
    for quantity in found["far"]["energy_j"].values():
        assert quantity["value"] is None
        assert quantity["note"].startswith("the model runs on another machine")
    energies = [quantity for name, quantity in found["far"]["metrics"].items() if "energy" in name]
    assert {quantity["value"] for quantity in energies} == {None}
    assert found["far"]["idle"] == {}
    assert found["far"]["metrics"]["output_tokens_per_second"]["value"] > 0


def test_the_key_is_nowhere(
    pytester: pytest.Pytester, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key reaches the server, and no file or line of the session, not even of one that it refuses."""
    monkeypatch.setenv("BEADS_KEY", "sk-very-secret")
    server.behaviour.key = "sk-very-secret"
    with_key = "{config_name: with key, openai: {api_key_env: BEADS_KEY}}"
    done = run(pytester, server, with_key, "{config_name: without key}")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*the server refuses a request without a key (401): set openai.api_key_env*"])
    assert "secret" not in done.stdout.str() + done.stderr.str()
    left = [path for path in pytester.path.rglob("*") if path.is_file()]
    assert [path for path in left if b"very-secret" in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"status": 400}, "invalid_config", "the server refuses the request (400): the beads are stuck"),
        ({"status": 500}, "crashed", "the server failed (500): the beads are stuck"),
        ({"fault": "uncounted"}, "invalid_config", "the server counts no tokens in its stream"),
        ({"fault": "cut"}, "crashed", "the server broke the "),
        ({"models": [{"id": "pebbles"}]}, "invalid_config", "the server has no model 'beads'"),
    ],
    ids=["400", "500", "no counts", "cut", "no model"],
)
def test_a_server_in_trouble(
    pytester: pytest.Pytester, server: CompletionsServer, change: dict[str, Any], kind: str, message: str
) -> None:
    """What goes wrong at the server fails the experiment with its class and one sentence."""
    vars(server.behaviour).update(change)
    run(pytester, server, "{config_name: one}").assert_outcomes(failed=1)
    (result,) = results_of(pytester.path)
    assert result["failure"]["kind"] == kind
    assert result["failure"]["message"].startswith(message)


def test_no_server(pytester: pytest.Pytester) -> None:
    """Where no server is, the experiment fails as an engine that did not start, with what to do."""
    with serving() as server:
        pass
    run(pytester, server, "{config_name: one}").assert_outcomes(failed=1)
    (result,) = results_of(pytester.path)
    assert result["failure"]["kind"] == "engine_start"
    assert result["failure"]["message"].startswith(f"no server answers at {server.base_url} (")


def test_a_server_needs_no_container(pytester: pytest.Pytester, server: CompletionsServer) -> None:
    """Left to itself the session takes child processes, and says that there is no service to run."""
    done = run(pytester, server, "{config_name: one}", options="--collect-only")
    done.stdout.fnmatch_lines(["executor: local (*auto: no Compose service for openai)"])
