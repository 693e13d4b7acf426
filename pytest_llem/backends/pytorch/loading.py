"""From a configuration to a model on its device: trained weights, or random ones of the same architecture."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from pytest_llem.backends.base import EngineError
from pytest_llem.backends.pytorch.quantization import quantization_arguments, quantization_config
from pytest_llem.backends.pytorch.spec import PyTorchParameters
from pytest_llem.records import RANDOM_WEIGHTS, Configuration

WEIGHTS_SEED = 0
"""Of random weights: one for all, so that two configurations of one architecture compute with equal weights
wherever device and dtype are equal."""

DTYPES = MappingProxyType({"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16})


def has_random_weights(configuration: Configuration) -> bool:
    """Return whether the model is an architecture with random weights."""
    return configuration.model_name.startswith(RANDOM_WEIGHTS)


def load_model(configuration: Configuration, parameters: PyTorchParameters, path: str) -> PreTrainedModel:
    """Load the model of a configuration from a folder or hub id, ready to generate.

    Raises:
        EngineError: when transformers refuses; its reason is in the message.
    """
    device = choose_device(parameters.device)
    wanted = {
        "dtype": DTYPES[configuration.fp_precision],
        "attn_implementation": parameters.attn_implementation,
        "trust_remote_code": parameters.trust_remote_code,
    }
    try:
        if has_random_weights(configuration):
            model = _random(path, parameters, device, wanted)
        else:
            model = _trained(path, parameters, device, wanted)
    except (OSError, ValueError, ImportError) as error:
        raise EngineError(f"{configuration.model_name} {_refusal(error, parameters)}") from error
    model.eval()
    return model


def _refusal(error: Exception, parameters: PyTorchParameters) -> str:
    if "trust_remote_code" in str(error) and not parameters.trust_remote_code:
        return "brings code of its own: read it, and set trust_remote_code: true if you trust it"
    return f"cannot be loaded: {next(iter(str(error).strip().splitlines()), type(error).__name__)}"


def choose_device(asked: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise EngineError("device: cuda is asked for, and torch finds no CUDA device here")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(found if asked == "auto" else asked)


def _random(
    path: str, parameters: PyTorchParameters, device: torch.device, wanted: dict[str, Any]
) -> PreTrainedModel:
    """Initialise the architecture as its authors do, on the device itself: a CPU can take minutes."""
    config = AutoConfig.from_pretrained(
        path, trust_remote_code=parameters.trust_remote_code, **revision(parameters)
    )
    torch.manual_seed(WEIGHTS_SEED)
    with device:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, **wanted)
    if quantization_arguments(parameters) is None:
        return model
    with TemporaryDirectory(prefix="llem-weights-") as folder:  # quantisers work on weights that they read
        model.save_pretrained(folder)
        del model
        return _trained(folder, parameters, device, wanted)


def _trained(
    path: str, parameters: PyTorchParameters, device: torch.device, wanted: dict[str, Any]
) -> PreTrainedModel:
    """Load trained weights, all of them: transformers would draw missing ones at random and only warn."""
    model: PreTrainedModel
    model, report = AutoModelForCausalLM.from_pretrained(
        path,
        device_map=device.type,
        quantization_config=quantization_config(parameters),
        output_loading_info=True,
        **revision(parameters),
        **wanted,
    )
    if missing := sorted(report["missing_keys"]):
        raise EngineError(f"{path} lacks {len(missing)} of the model's weights, such as {missing[0]}")
    return model


def revision(parameters: PyTorchParameters) -> dict[str, str]:
    """Return the argument of `from_pretrained` that picks a branch, tag or commit, if one is asked for."""
    return {} if parameters.revision is None else {"revision": parameters.revision}
