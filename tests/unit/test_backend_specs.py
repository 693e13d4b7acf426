from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import ValidationError

from pytest_llem.backends.base import BackendSpec
from pytest_llem.backends.pytorch.spec import SPEC as PYTORCH
from pytest_llem.backends.pytorch.spec import PyTorchParameters
from pytest_llem.backends.registry import registered
from pytest_llem.backends.tensorrt.spec import SPEC as TENSORRT
from pytest_llem.backends.vllm.spec import SPEC as VLLM

SPECS = [PYTORCH, VLLM, TENSORRT]
each_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


@each_spec
def test_spec_is_registered_under_its_own_name(spec: BackendSpec) -> None:
    """A campaign finds each backend by the name that it uses for its section."""
    assert registered()[spec.name] is spec


def test_specs_import_no_engine() -> None:
    """The host learns what a backend is without importing torch or any other engine."""
    modules = [f"pytest_llem.backends.{spec.name}.spec" for spec in SPECS]
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {"torch", "transformers", "vllm", "tensorrt_llm", "numpy"} & set(imported.split())


@each_spec
def test_shared_batch_size_means_a_parameter_that_counts_from_one(spec: BackendSpec) -> None:
    """The batch parameter takes 1 and refuses 0."""
    assert getattr(spec.parameters(**{spec.batch_parameter: 1}), spec.batch_parameter) == 1
    with pytest.raises(ValidationError):
        spec.parameters(**{spec.batch_parameter: 0})


@each_spec
def test_what_is_given_with_each_call_is_a_parameter(spec: BackendSpec) -> None:
    """No name of `per_call` is misspelled: such a name would start launches for nothing."""
    assert spec.parameters.per_call <= spec.parameters.model_fields.keys()


@each_spec
def test_every_default_is_a_value_that_the_section_accepts(spec: BackendSpec) -> None:
    """Writing a default out is the same as leaving it out."""
    defaults = spec.parameters().model_dump()
    assert spec.parameters.model_validate(defaults) == spec.parameters()


@each_spec
def test_unknown_parameter_is_refused(spec: BackendSpec) -> None:
    """A misspelled parameter cannot slip through unapplied."""
    with pytest.raises(ValidationError, match="btch_size"):
        spec.parameters.model_validate({"btch_size": 4})


@pytest.mark.parametrize("spec", [PYTORCH, VLLM], ids=lambda spec: spec.name)
def test_the_engine_exists_and_is_preloaded(spec: BackendSpec) -> None:
    """The engine module that the worker will import is part of the package, and imported before all launches."""
    assert spec.engine in spec.preload
    assert all(find_spec(name) for name in spec.preload if name.startswith("pytest_llem"))


def test_an_engine_that_must_not_be_forked_exists() -> None:
    """TensorRT-LLM starts MPI when it is imported: its engine module is there, and preloaded nowhere."""
    assert TENSORRT.engine is not None
    assert find_spec(TENSORRT.engine)
    assert TENSORRT.preload == ()


def test_torch_compile_true_is_the_default_mode() -> None:
    """`true` and `default` are one configuration, so they get one hash."""
    assert PyTorchParameters(torch_compile=True) == PyTorchParameters(torch_compile="default")


@pytest.mark.parametrize("written", [[1, 2, 4], [4, 2, 1], [1, 4, 2, 4]])
def test_capture_sizes_are_a_set(written: list[int]) -> None:
    """Sizes in any order, repeated or not, are one configuration: vLLM sorts them and drops the repeated ones."""
    section = VLLM.parameters.model_validate({"cudagraph_capture_sizes": written})
    assert section.model_dump()["cudagraph_capture_sizes"] == (1, 2, 4)


@pytest.mark.parametrize(
    "refused",
    [
        {"batching_strategy": "dynamic"},
        {"torch_compile": "fast"},
        {"bnb_4bit_quant_type": "int4"},
        {"cache_implementation": "paged"},
        {"device": "tpu"},
        {"min_p": 1.5},
        {"num_beams": 0},
        {"quantization_config": {"bits": 4}},
    ],
    ids=lambda refused: next(iter(refused)),
)
def test_pytorch_refuses_what_it_could_not_apply(refused: dict[str, Any]) -> None:
    """A value that the engine would have to ignore or replace is no valid section."""
    with pytest.raises(ValidationError, match=next(iter(refused))):
        PyTorchParameters.model_validate(refused)


@pytest.mark.parametrize(
    ("spec", "section"),
    [
        (
            VLLM,
            {
                "max_num_seqs": 256,
                "max_model_len": 1024,
                "gpu_memory_utilization": 0.9,
                "tensor_parallel_size": 2,
                "enable_prefix_caching": True,
                "enable_chunked_prefill": True,
                "enforce_eager": False,
                "kv_cache_dtype": "auto",
                "block_size": 16,
            },
        ),
        (
            TENSORRT,
            {
                "max_batch_size": 8,
                "force_rebuild": False,
            },
        ),
        (
            PYTORCH,
            {"batch_size": 8, "attn_implementation": "sdpa", "torch_compile": False, "use_cache": True},
        ),
    ],
    ids=lambda value: value.name if isinstance(value, BackendSpec) else "",
)
def test_section_of_a_v1_file_is_accepted_as_written(spec: BackendSpec, section: dict[str, Any]) -> None:
    """What llenergymeasure v1's own examples set is kept, key by key and value by value."""
    written = spec.parameters.model_validate(section).model_dump()
    assert {name: written[name] for name in section} == section
