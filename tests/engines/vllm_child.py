"""Runs in the environment of the vllm backend: answers what tests ask of the real engine, as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from vllm import EngineArgs
from vllm.usage.usage_lib import UsageContext

from pytest_llem.backends.application import verify
from pytest_llem.backends.base import EngineError, Request
from pytest_llem.backends.vllm import effective, surroundings
from pytest_llem.backends.vllm.engine import VLLMEngine, arguments, load
from pytest_llem.backends.vllm.refusals import refusals
from pytest_llem.backends.vllm.sampling import sampling_params
from pytest_llem.backends.vllm.spec import VLLMParameters
from pytest_llem.records import Configuration


def parameters(model: str, cases: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return what vLLM makes of each value of each parameter: the value that it has then, or why not."""
    surroundings.prepare()
    return {name: [_applied(model, name, value) for value in values] for name, values in cases.items()}


def quantizations(model: str, methods: list[str]) -> list[Any]:
    """Return what a result would say of each method that is asked for: the method, and vLLM's name for it."""
    surroundings.prepare()
    found = [_effective(model, "quantization", method, fp_precision="bfloat16") for method in methods]
    return [it if isinstance(it, str) else [it["quantization"], it["quantization_method"]] for it in found]


def _applied(model: str, name: str, value: Any) -> Any:
    found = _effective(model, name, value, fp_precision="float32")
    return found if isinstance(found, str) else found[name]


def _effective(model: str, name: str, value: Any, fp_precision: str) -> dict[str, Any] | str:
    """Return what would be applied of a configuration that sets one parameter, or why it is refused."""
    wanted = Configuration.model_validate(
        {
            "model_name": model,
            "backend": "vllm",
            "fp_precision": fp_precision,
            "parameters": {"max_num_seqs": 4, name: value},
        }
    )
    try:
        with refusals("refused"):
            config = EngineArgs(**arguments(wanted, model)).create_engine_config(UsageContext.LLM_CLASS)
        applied = {
            **effective.of_engine(config, VLLMParameters.model_validate(wanted.parameters)),
            **effective.of_sampling(sampling_params(wanted, frozenset())),
        }
        verify({name: effective.asked(wanted).get(name, value)}, applied)
    except EngineError as error:
        return str(error)
    return applied


def answers(model: str, prompts: list[list[int]], configurations: list[dict[str, Any]]) -> list[Any]:
    """Return the lengths of the answers of each configuration's pass, all served by one engine."""
    wanted = [Configuration.model_validate(configuration) for configuration in configurations]
    engine = load(wanted[0], model)
    return [_lengths(engine, prompts, one) for one in wanted]


def _lengths(engine: VLLMEngine, prompts: list[list[int]], wanted: Configuration) -> Any:
    try:
        return [request.output_tokens for request in engine.run_pass(prompts, wanted, lambda: None).requests]
    except EngineError as error:
        return str(error)


def life(model: str, prompts: list[list[int]], configuration: dict[str, Any]) -> None:
    """Serve a pass and a part of a load, say what came of both, and wait to be killed."""
    wanted = Configuration.model_validate(configuration)
    engine = load(wanted, model)
    offline = engine.run_pass(prompts, wanted, lambda: None)
    for prompt in prompts:
        engine.submit(prompt, time.monotonic(), wanted)
    complete: list[Request] = []
    while not complete:
        complete += engine.step(lambda: None).requests
    engine.step(lambda: None)  # which begins with those that come next
    begun = engine.cancel()
    engine.drain()
    again = engine.run_pass(prompts, wanted, lambda: None)
    told = {
        "engine_core": engine.effective()["engine_core"],
        "offline": [request.output_tokens for request in offline.requests],
        "complete": len(complete),
        "begun": [[request.output_tokens, request.first_token_s is not None] for request in begun],
        "again": [request.output_tokens for request in again.requests],
    }
    print(json.dumps(told), flush=True)
    time.sleep(600)


if __name__ == "__main__":
    questions: dict[str, Callable[..., Any]] = {
        "parameters": parameters,
        "quantizations": quantizations,
        "answers": answers,
        "life": life,
    }
    print(json.dumps(questions[sys.argv[1]](**json.load(sys.stdin))))
