"""What the host knows of the `pytorch` backend: its section of a campaign file. Imports no engine."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from pytest_llem.backends.base import BackendSpec, Parameters
from pytest_llem.records import Count


class PyTorchParameters(Parameters):
    """The `pytorch:` section, with the names of transformers, bitsandbytes and torch.

    Attributes:
        batch_size: prompts a `generate()` call.
        batching_strategy: `static` takes the prompts in their order, `sorted_static` by length: less padding.
        attn_implementation: as in `from_pretrained`: `sdpa`, `eager`, `flash_attention_2` or another kernel.
        torch_compile: False, or the mode of `torch.compile`; true means `default`.
        torch_compile_backend: None leaves the choice to `torch.compile`.
        bnb_4bit_compute_dtype: with its neighbours `bnb_4bit_*` read with `load_in_4bit` only.
        quantization_config: arguments of the transformers class that its `quant_method` names.
        cache_implementation: None leaves the choice to the model.
        device: `auto` is the GPU where there is one.
        num_threads: torch's intra-op threads; None leaves torch's own choice.
        revision: branch, tag or commit of the model on its hub.
        min_p: 0 turns it off.
        no_repeat_ngram_size: 0 turns it off.
    """

    per_call: ClassVar[frozenset[str]] = frozenset(
        {
            "batch_size",
            "batching_strategy",
            "use_cache",
            "cache_implementation",
            "min_p",
            "no_repeat_ngram_size",
            "num_beams",
        }
    )

    batch_size: Count = 1
    batching_strategy: Literal["static", "sorted_static"] = "static"
    attn_implementation: str = "sdpa"
    torch_compile: Literal[
        False, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"
    ] = False
    torch_compile_backend: str | None = None
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    bnb_4bit_compute_dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    bnb_4bit_use_double_quant: bool = False
    quantization_config: dict[str, Any] | None = None
    use_cache: bool = True
    cache_implementation: (
        Literal["dynamic", "static", "offloaded", "offloaded_static", "quantized"] | None
    ) = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_threads: Count | None = None
    trust_remote_code: bool = False
    revision: str | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] = 0
    num_beams: Count = 1

    @field_validator("torch_compile", mode="before")
    @classmethod
    def _name_the_default_mode(cls, value: object) -> object:
        """Let `true` and `default` be one configuration, with one hash."""
        return "default" if value is True else value

    @field_validator("quantization_config")
    @classmethod
    def _name_the_method(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and not isinstance(value.get("quant_method"), str):
            raise ValueError("quantization_config needs a `quant_method`, such as `quant_method: torchao`")
        return value


SPEC = BackendSpec(
    name="pytorch",
    parameters=PyTorchParameters,
    batch_parameter="batch_size",
    engine="pytest_llem.backends.pytorch.engine",
    preload=("torch", "transformers", "pytest_llem.backends.pytorch.engine"),
    install="pip install 'pytest-llem[pytorch]'",
    packages=("torch", "transformers", "accelerate", "bitsandbytes", "numpy"),
)
