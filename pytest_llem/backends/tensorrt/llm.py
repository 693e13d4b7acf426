"""From a configuration to `tensorrt_llm.LLM` and `SamplingParams`, by the names of the LLM API of TensorRT-LLM 1.2.

https://nvidia.github.io/TensorRT-LLM/llm-api/reference.html. Imported in the engine process only, after it is
known that there is a GPU: importing TensorRT-LLM takes many seconds and fails without a driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorrt_llm
from tensorrt_llm import llmapi

from pytest_llem.backends.base import EngineError
from pytest_llem.backends.sampling import resolve
from pytest_llem.backends.tensorrt.model import Model
from pytest_llem.backends.tensorrt.spec import TensorRTParameters
from pytest_llem.records import RANDOM_WEIGHTS, Configuration

SIZES = ("max_input_len", "max_seq_len", "max_num_tokens")
"""Limits that are TensorRT-LLM's own choice unless they are set."""

NO_END = -1
"""`end_id` of a request that ends by its length alone."""


def compile_model(configuration: Configuration, model: Model, folder: Path) -> None:
    """Build the engine of a configuration and save it in a folder.

    Raises:
        EngineError: this TensorRT-LLM builds none, or refuses.
    """
    parameters = TensorRTParameters.model_validate(configuration.parameters)
    build_config = llmapi.BuildConfig(
        max_batch_size=parameters.max_batch_size,
        strongly_typed=parameters.strongly_typed,
        **_sizes(parameters),
    )
    build_config.plugin_config.multiple_profiles = parameters.multiple_profiles
    llm = construct(
        engine_class(),
        **_common(parameters, model),
        **_checkpoint(configuration, model),
        **_quantised(parameters),
        build_config=build_config,
        fast_build=parameters.fast_build,
    )
    try:
        llm.save(str(folder))
    finally:
        llm.shutdown()


def open_engine(parameters: TensorRTParameters, model: Model, engine: Path) -> Any:
    """Return an LLM on an engine that is built.

    Raises:
        EngineError: this TensorRT-LLM knows no engines, or refuses this one.
    """
    return construct(engine_class(), model=str(engine), **_common(parameters, model))


def open_checkpoint(configuration: Configuration, model: Model) -> Any:
    """Return an LLM on TensorRT-LLM's PyTorch backend.

    Raises:
        EngineError: it refuses.
    """
    parameters = TensorRTParameters.model_validate(configuration.parameters)
    more = {}
    if parameters.speculative_model is not None:
        more["speculative_config"] = llmapi.DraftTargetDecodingConfig(
            max_draft_len=parameters.max_draft_len, speculative_model=parameters.speculative_model
        )
    return construct(
        tensorrt_llm.LLM, **_common(parameters, model), **_checkpoint(configuration, model), **more
    )


def sampling(configuration: Configuration, model: Model) -> Any:
    """Return the `SamplingParams` of a configuration's requests.

    Raises:
        EngineError: an answer should end by itself, and the model names no token that ends one.
    """
    wanted = resolve(configuration.decoder)
    greedy = {"top_k": 1}
    drawn = {"temperature": wanted.temperature, "top_p": wanted.top_p, "top_k": wanted.top_k}
    return llmapi.SamplingParams(
        max_tokens=configuration.max_output_tokens,
        seed=configuration.random_seed,
        repetition_penalty=wanted.repetition_penalty,
        detokenize=False,
        return_perf_metrics=True,
        **(drawn if wanted.do_sample else greedy),
        **_ends(configuration, model),
    )


def engine_class() -> Callable[..., Any]:
    """Return the LLM class that compiles a model and runs the compiled engine.

    Raises:
        EngineError: this TensorRT-LLM has none.
    """
    try:
        from tensorrt_llm._tensorrt_engine import LLM  # noqa: PLC0415 - gone after 1.2
    except ImportError as error:
        raise EngineError(
            f"TensorRT-LLM {tensorrt_llm.__version__} builds no TensorRT engines:"
            " install 1.2, which does, or set backend: pytorch in the tensorrt section"
        ) from error
    found: Callable[..., Any] = LLM
    return found


def construct(make: Callable[..., Any], **arguments: Any) -> Any:
    """Return `make(**arguments)`, with its errors in the classes that the worker knows.

    Raises:
        EngineError: the arguments are refused.
        MemoryError: the device's memory does not suffice.
    """
    try:
        return make(**arguments)
    except ValueError as error:
        raise EngineError(f"TensorRT-LLM refuses: {' '.join(str(error).split())}") from error
    except Exception as error:
        if "out of memory" in str(error).lower():
            raise MemoryError(str(error)) from error
        raise


def _common(parameters: TensorRTParameters, model: Model) -> dict[str, Any]:
    """Return what every LLM is told, whatever it runs on."""
    policy = llmapi.CapacitySchedulerPolicy[parameters.capacity_scheduler_policy]
    tokenizer = {"tokenizer": str(model.folder)} if model.has_tokenizer else {"skip_tokenizer_init": True}
    return {
        **tokenizer,
        **_sizes(parameters),
        "trust_remote_code": parameters.trust_remote_code,
        "tensor_parallel_size": parameters.tensor_parallel_size,
        "pipeline_parallel_size": parameters.pipeline_parallel_size,
        "max_batch_size": parameters.max_batch_size,
        "enable_chunked_prefill": parameters.enable_chunked_prefill,
        "scheduler_config": llmapi.SchedulerConfig(capacity_scheduler_policy=policy),
        "kv_cache_config": llmapi.KvCacheConfig(
            enable_block_reuse=parameters.enable_block_reuse,
            free_gpu_memory_fraction=parameters.free_gpu_memory_fraction,
        ),
    }


def _checkpoint(configuration: Configuration, model: Model) -> dict[str, Any]:
    is_random = configuration.model_name.startswith(RANDOM_WEIGHTS)
    return {
        "model": str(model.folder),
        "dtype": configuration.fp_precision,
        "load_format": "dummy" if is_random else "auto",
    }


def _sizes(parameters: TensorRTParameters) -> dict[str, int]:
    return {name: value for name in SIZES if (value := getattr(parameters, name)) is not None}


def _quantised(parameters: TensorRTParameters) -> Mapping[str, Any]:
    names = {"quant_algo": parameters.quant_algo, "kv_cache_quant_algo": parameters.kv_cache_quant_algo}
    given = {name: llmapi.QuantAlgo[algorithm] for name, algorithm in names.items() if algorithm}
    return {"quant_config": llmapi.QuantConfig(**given)} if given else {}


def _ends(configuration: Configuration, model: Model) -> dict[str, Any]:
    """Return what ends a request. Without a tokenizer TensorRT-LLM wants to be told the token."""
    exact = configuration.output_length == "exact"
    if model.has_tokenizer:
        return {"ignore_eos": exact}
    if exact:
        return {"ignore_eos": True, "end_id": NO_END}
    if not model.end_ids:
        raise EngineError("the model names no token that ends an answer: set output_length: exact")
    first, *others = model.end_ids
    return {"end_id": first, **({"stop_token_ids": others} if others else {})}
