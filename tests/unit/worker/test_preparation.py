from __future__ import annotations

import pytest

from pytest_llem.worker.preparation import PreparationError, _weight_format
from pytest_llem.worker.protocol import PrepareModel

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
MODEL = PrepareModel(name="org/model")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["config.json", "model.safetensors", "pytorch_model.bin"], "model*.safetensors"),
        ([*SHARDS, "consolidated.safetensors"], "model*.safetensors"),
        (["gptq_model-4bit-128g.safetensors", "training_args.bin"], "*.safetensors"),
        (["pytorch_model-00001-of-00001.bin", "training_args.bin"], "pytorch_model*.bin"),
        (["onnx/model.safetensors", "pytorch_model.bin"], "pytorch_model*.bin"),
        (["consolidated.pt"], "*.pt"),
    ],
)
def test_the_weights_of_a_model_are_fetched_once(names: list[str], wanted: str) -> None:
    """Of several copies the format that engines prefer is taken, and none from a subfolder."""
    assert _weight_format(MODEL, names) == wanted


def test_a_model_without_weights_is_refused() -> None:
    """What no engine here loads are no weights."""
    with pytest.raises(PreparationError, match="org/model has no weights in safetensors or PyTorch's format"):
        _weight_format(MODEL, ["config.json", "model.gguf", "model.onnx", "original/consolidated.00.pth"])
