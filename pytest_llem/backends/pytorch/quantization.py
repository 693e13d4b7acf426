"""From the parameters of a configuration to transformers' own quantisation classes."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from transformers import BitsAndBytesConfig
from transformers.quantizers.auto import AutoQuantizationConfig

from pytest_llem.backends.base import EngineError
from pytest_llem.backends.pytorch.spec import PyTorchParameters


def quantization_arguments(parameters: PyTorchParameters) -> dict[str, Any] | None:
    """Return what the parameters ask of the quantisation, by its own names, or None for none."""
    if parameters.load_in_4bit:
        return {
            "load_in_4bit": True,
            "bnb_4bit_compute_dtype": parameters.bnb_4bit_compute_dtype,
            "bnb_4bit_quant_type": parameters.bnb_4bit_quant_type,
            "bnb_4bit_use_double_quant": parameters.bnb_4bit_use_double_quant,
        }
    if parameters.load_in_8bit:
        return {"load_in_8bit": True}
    return parameters.quantization_config


def quantization_config(parameters: PyTorchParameters) -> Any:
    """Return the object that `from_pretrained` takes as `quantization_config`, or None for no quantisation.

    Raises:
        EngineError: when bitsandbytes is asked for and missing, or transformers does not take the arguments.
    """
    wanted = quantization_arguments(parameters)
    if wanted is None:
        return None
    asked = next((name for name in ("load_in_4bit", "load_in_8bit") if wanted.get(name)), None)
    if asked and importlib.util.find_spec("bitsandbytes") is None:
        raise EngineError(f"{asked} needs the package bitsandbytes: pip install 'pytest-llem[quantization]'")
    # It warns of each matrix product whose input it casts: lines of log that cost time while it is measured.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        return BitsAndBytesConfig(**wanted) if asked else AutoQuantizationConfig.from_dict(dict(wanted))
    except (ImportError, TypeError, ValueError) as error:
        raise EngineError(f"quantization_config: {error}") from error
