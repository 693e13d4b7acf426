"""The section `tensorrt` of a campaign file."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pytest_llem.backends.tensorrt.spec import OLD_QUANTIZATIONS, SPEC, TensorRTParameters


def test_engines_are_always_spawned() -> None:
    """Nothing is preloaded, which asks for spawned processes, and the missing library is named all the same."""
    assert SPEC.preload == ()
    assert SPEC.modules == ("tensorrt_llm",)
    assert SPEC.needs_nvidia_gpu


def test_a_build_has_two_hours() -> None:
    """The start of an engine may take what compiling a large model takes."""
    assert SPEC.engine_start_timeout_s == 7200


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"backend": "pytorch", "fast_build": True}, "fast_build belongs to backend: tensorrt"),
        ({"backend": "pytorch", "quant_algo": "FP8"}, "quant_algo belongs to backend: tensorrt"),
        ({"backend": "pytorch", "engine_path": "built"}, "engine_path belongs to backend: tensorrt"),
        ({"speculative_model": "small"}, "speculative_model needs backend: pytorch"),
        ({"backend": "onnx"}, "backend"),
        ({"quant_algo": "fp4"}, "quant_algo"),
        ({"free_gpu_memory_fraction": 0}, "free_gpu_memory_fraction"),
        ({"builder_opt_level": 3}, "builder_opt_level"),
    ],
)
def test_what_could_not_be_applied_is_refused(section: dict[str, Any], message: str) -> None:
    """A value that TensorRT-LLM would ignore or replace is no valid section, and the message names the key."""
    with pytest.raises(ValidationError, match=message):
        TensorRTParameters.model_validate(section)


@pytest.mark.parametrize("old", OLD_QUANTIZATIONS)
def test_a_quantisation_of_v1_has_its_present_name(old: str) -> None:
    """The words of llenergymeasure v1 give the algorithm that TensorRT-LLM built for them."""
    assert TensorRTParameters.model_validate({"quant_algo": old}).quant_algo == OLD_QUANTIZATIONS[old]
