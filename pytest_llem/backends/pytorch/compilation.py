"""`torch.compile` of a model's forward, and the proof that it took place."""

from __future__ import annotations

import torch
import torch._dynamo.config as dynamo_config
from torch._dynamo.exc import InvalidBackend
from torch._dynamo.utils import counters
from transformers import PreTrainedModel

from pytest_llem.backends.base import EngineError
from pytest_llem.backends.pytorch.spec import PyTorchParameters

INDUCTOR = "inductor"
"""The default backend of `torch.compile`, and the only one that has modes."""

CUDA_GRAPH_MODES = frozenset({"reduce-overhead", "max-autotune"})
"""Modes that record CUDA graphs. Elsewhere torch leaves them out without an error."""


def compile_forward(model: PreTrainedModel, parameters: PyTorchParameters) -> None:
    """Compile the model's forward in place at its next calls, if the parameters ask for it.

    Raises:
        EngineError: for a mode or backend that would have no effect on this model's device.
    """
    mode, backend = parameters.torch_compile, parameters.torch_compile_backend or INDUCTOR
    if not mode:
        return
    if backend != INDUCTOR and mode != "default":
        raise EngineError(f"torch_compile: {mode} is a mode of {INDUCTOR} and has no effect on {backend}")
    if model.device.type != "cuda" and (mode in CUDA_GRAPH_MODES or backend == "cudagraphs"):
        name = backend if backend == "cudagraphs" else mode
        raise EngineError(
            f"torch_compile with {name} records CUDA graphs, and the model is on {model.device.type}"
        )
    # Otherwise torch gives up after some recompilations and goes on without compiled code.
    dynamo_config.fail_on_recompile_limit_hit = True
    try:
        model.compile(mode=mode, backend=backend)
    except InvalidBackend as error:
        raise EngineError(f"torch_compile_backend: {backend} is not known to this torch") from error


def is_compiled(model: PreTrainedModel) -> bool:
    """Return whether calls of the model go through `torch.compile`."""
    return model._compiled_call_impl is not None  # noqa: SLF001 - where torch.nn.Module.compile() puts it


def forget_compiled_code() -> None:
    """Drop all compiled code, so that what follows compiles as in a new process.

    Code that was compiled for one shape and then meets another is generalised, and slower: without this, the
    speed of a configuration would depend on those before it.
    """
    torch.compiler.reset()


def compiled_graphs() -> int:
    """Return how many graphs have been compiled in this process so far."""
    return counters["stats"]["unique_graphs"]
