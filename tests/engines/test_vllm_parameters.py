"""What the keys of the `vllm:` section do to vLLM's own configuration, asked of vLLM itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vllm_environment import ask

NGRAM = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3}

APPLIED: dict[str, tuple[Any, Any]] = {
    "max_num_seqs": (4, 8),
    "max_num_batched_tokens": (512, 1024),
    "max_model_len": (128, 256),
    "gpu_memory_utilization": (0.5, 0.6),
    "kv_cache_memory_bytes": (1 << 26, 1 << 27),
    "num_gpu_blocks_override": (10, 20),
    "kv_cache_dtype": ("auto", "fp8"),
    "block_size": (32, 64),
    "enable_prefix_caching": (True, False),
    "enable_chunked_prefill": (True, False),
    "long_prefill_token_threshold": (16, 32),
    "cpu_offload_gb": (0.0, 1.0),
    "tensor_parallel_size": (1, 2),
    "pipeline_parallel_size": (1, 2),
    "distributed_executor_backend": ("uni", "mp"),
    "disable_sliding_window": (False, True),
    "enforce_eager": (True, False),
    "optimization_level": (0, 1),
    "speculative_config": (None, NGRAM),
    "load_format": ("auto", "safetensors"),
    "trust_remote_code": (False, True),
    "revision": (None, "main"),
    "seed": (0, 7),
    "logprobs": (1, 2),
}
"""Two values of each key, which vLLM applies on any machine."""

NOT_HERE: dict[str, tuple[Any, Any, str]] = {
    "async_scheduling": (
        False,
        True,
        "the engine did not apply async_scheduling (asked True, applied False)",
    ),
    "disable_custom_all_reduce": (
        True,
        False,
        "the engine did not apply disable_custom_all_reduce (asked False, applied True)",
    ),
    "cudagraph_capture_sizes": (
        [],
        [1, 2],
        "the engine did not apply cudagraph_capture_sizes (asked (1, 2), applied [])",
    ),
    "compilation_config": (
        {"mode": 0},
        {"mode": 3},
        "the engine did not apply compilation_config.mode (asked 3, applied 2)",
    ),
    "quantization": (
        None,
        "fp8",
        (
            "refused: torch.float32 is not supported for quantization method fp8. Supported dtypes:"
            " [torch.bfloat16, torch.float16]"
        ),
    ),
    "enable_expert_parallel": (
        False,
        True,
        "refused: Number of experts in the model must be greater than 0 when expert parallelism is enabled.",
    ),
}
"""A value that vLLM applies on a CPU to a small dense model, one that it does not, and what is said of that."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Ask vLLM for its configuration with each value of each parameter."""
    model = tmp_path_factory.mktemp("model")
    (model / "config.json").write_text(json.dumps(ARCHITECTURE))
    cases = {name: values[:2] for name, values in (APPLIED | NOT_HERE).items()}
    answer: dict[str, list[Any]] = ask("parameters", model=str(model), cases=cases)
    return answer


ARCHITECTURE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 128,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.mark.parametrize("name", APPLIED)
@pytest.mark.key(
    "vllm.max_num_seqs",
    "vllm.max_num_batched_tokens",
    "vllm.max_model_len",
    "vllm.gpu_memory_utilization",
    "vllm.kv_cache_memory_bytes",
    "vllm.num_gpu_blocks_override",
    "vllm.kv_cache_dtype",
    "vllm.block_size",
    "vllm.enable_prefix_caching",
    "vllm.enable_chunked_prefill",
    "vllm.long_prefill_token_threshold",
    "vllm.cpu_offload_gb",
    "vllm.tensor_parallel_size",
    "vllm.pipeline_parallel_size",
    "vllm.distributed_executor_backend",
    "vllm.disable_sliding_window",
    "vllm.enforce_eager",
    "vllm.optimization_level",
    "vllm.speculative_config",
    "vllm.load_format",
    "vllm.trust_remote_code",
    "vllm.revision",
    "vllm.seed",
    "vllm.logprobs",
)
def test_a_parameter_reaches_vllm_and_is_read_back(found: dict[str, list[Any]], name: str) -> None:
    """Each of two values is what vLLM's own configuration holds afterwards, and what the result will say."""
    assert found[name] == list(APPLIED[name])


@pytest.mark.parametrize("name", NOT_HERE)
@pytest.mark.key(
    "vllm.async_scheduling",
    "vllm.disable_custom_all_reduce",
    "vllm.cudagraph_capture_sizes",
    "vllm.compilation_config",
    "vllm.quantization",
    "vllm.enable_expert_parallel",
)
def test_what_vllm_does_not_apply_is_refused(found: dict[str, list[Any]], name: str) -> None:
    """Of two values vLLM applies one; the other is refused in a sentence with what was asked and what was applied."""
    applied, refused = found[name]
    assert refused == NOT_HERE[name][2]
    assert isinstance(applied, dict) or applied == NOT_HERE[name][0]


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}


def test_a_quantised_checkpoint_is_proved_in_the_word_that_was_asked(tmp_path: Path) -> None:
    """A checkpoint's `gptq` is renamed by vLLM: the result has the word that was asked beside vLLM's own."""
    (tmp_path / "config.json").write_text(json.dumps(ARCHITECTURE | {"quantization_config": GPTQ}))
    same, others = ["gptq", "gptq_marlin", "auto_gptq"], ["moe_wna16", "awq"]
    found = ask("quantizations", model=str(tmp_path), methods=same + others)
    assert found[:3] == [[method, "auto_gptq"] for method in same]
    assert found[3] == ["moe_wna16", "moe_wna16"]
    assert "does not match" in found[4]
