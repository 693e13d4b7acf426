"""What vLLM answers, asked of one engine without a campaign around it, and how it ends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from sessions import wait_until
from standin.vllm_models import make_architecture, make_trained
from vllm_environment import CHILD, ask, environment, vllm_python

PROMPTS = [[40 + 5 * row, 41 + 3 * row] for row in range(12)]
LONGEST = 40


def wanted(
    decoder: dict[str, Any] | None = None, *, seed: int = 42, exact: bool = False, **parameters: Any
) -> dict[str, Any]:
    """Return a configuration with answers of up to `LONGEST` tokens."""
    return {
        "model_name": "trained",
        "backend": "vllm",
        "fp_precision": "float32",
        "max_input_tokens": 2,
        "max_output_tokens": LONGEST,
        "output_length": "exact" if exact else "natural",
        "random_seed": seed,
        "decoder": decoder or {},
        "parameters": {"max_num_seqs": 4, "enforce_eager": True, "kv_cache_memory_bytes": 1 << 24}
        | parameters,
    }


HOT = {"temperature": 1.5, "top_k": 0, "top_p": 1.0}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "greedy": wanted(),
    "greedy again": wanted(),
    "exact": wanted(exact=True),
    "penalty": wanted({"repetition_penalty": 3.0}),
    "hot": wanted(HOT),
    "hot again": wanted(HOT),
    "another seed": wanted(HOT, seed=7),
    "temperature": wanted(HOT | {"temperature": 0.5}),
    "top_k": wanted(HOT | {"top_k": 2}),
    "top_p": wanted(HOT | {"top_p": 0.5}),
    "min_p": wanted(HOT, min_p=0.5),
    "logit_bias": wanted(logit_bias={2: 100}),
    "too hot": wanted({"temperature": 3.0}),
    "bias outside": wanted(logit_bias={5000: 1}),
    "too long": wanted() | {"max_output_tokens": 500},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the lengths of the answers of each configuration, which stand for the answers."""
    model = make_trained(tmp_path_factory.mktemp("trained"))
    answers = ask("answers", model=str(model), prompts=PROMPTS, configurations=list(CONFIGURATIONS.values()))
    return dict(zip(CONFIGURATIONS, answers, strict=True))


def test_answers_end_or_are_filled(found: dict[str, Any]) -> None:
    """Exact answers have the length that was asked for; natural ones end, some of them early."""
    assert found["exact"] == [LONGEST] * len(PROMPTS)
    assert min(found["greedy"]) < max(found["greedy"]) <= LONGEST


@pytest.mark.parametrize("same", ["greedy", "hot"])
def test_a_pass_answers_as_the_same_pass_before(found: dict[str, Any], same: str) -> None:
    """Greedy and sampled answers repeat, for each request has a seed of its own."""
    assert found[f"{same} again"] == found[same]


@pytest.mark.parametrize("other", ["another seed", "temperature", "top_k", "top_p", "min_p"])
@pytest.mark.key("vllm.min_p")
def test_sampling_chooses_the_tokens(found: dict[str, Any], other: str) -> None:
    """Each setting of a sampling decoder changes answers that are otherwise the same."""
    assert found[other] != found["hot"]


@pytest.mark.key("vllm.logit_bias")
def test_logits_are_changed(found: dict[str, Any]) -> None:
    """A repetition penalty and a bias change what a greedy decoder answers; one on an end token ends all at once."""
    assert found["penalty"] != found["greedy"]
    assert found["logit_bias"] == [1] * len(PROMPTS)


def test_what_a_request_cannot_carry_is_refused(found: dict[str, Any]) -> None:
    """Values that vLLM does not take and prompts that do not fit are refused in a sentence, before they are served."""
    assert found["too hot"].startswith(
        "vLLM does not take the decoder's values: temperature must be in [0, 2], got 3"
    )
    assert found["bias outside"].startswith("vLLM does not take the request: ")
    assert "logit_bias" in found["bias outside"]
    assert found["too long"].startswith(
        "the longest prompt and 500 output tokens make 502 tokens, max_model_len is 128:"
    )


def test_an_engine_core_of_its_own(tmp_path: Path) -> None:
    """In a process of its own vLLM serves passes and loads, and ends when the one that drives it is killed."""
    configuration = wanted(exact=True, max_num_seqs=2) | {"model_name": "random:tiny"}
    details = {"model": str(make_architecture(tmp_path)), "prompts": PROMPTS, "configuration": configuration}
    engine = subprocess.Popen(
        [vllm_python(), CHILD, "life"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(VLLM_ENABLE_V1_MULTIPROCESSING="1"),
    )
    assert engine.stdin is not None
    assert engine.stdout is not None
    with engine:
        engine.stdin.write(json.dumps(details))
        engine.stdin.close()
        told = json.loads(next(line for line in engine.stdout if line.startswith("{")))
        family = psutil.Process(engine.pid).children(recursive=True)
        engine.kill()
    assert told["engine_core"] == "subprocess"
    assert told["offline"] == told["again"] == [LONGEST] * len(PROMPTS)
    assert told["complete"] in (1, 2)
    assert told["begun"]
    assert all(tokens < LONGEST and begun for tokens, begun in told["begun"])
    assert len(family) > 1
    wait_until(lambda: not any(map(psutil.Process.is_running, family)), "all of vLLM's processes have ended")
