"""What the `pytorch` engine's keys do: two values of each compute, store or answer differently."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from pytest_llem.backends.base import EngineError
from pytest_llem.backends.pytorch.engine import TransformersEngine, load
from pytest_llem.records import Configuration

PROMPTS = [[2 + row, 3 + row] for row in range(12)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the architecture of a Llama whose random weights have opinions, and end a third of its answers."""
    folder = tmp_path_factory.mktemp("model")
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=[20, 21],
        pad_token_id=0,
        initializer_range=0.3,
    )
    config.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.compiler.reset()


def wanted(decoder: dict[str, Any] | None = None, **parameters: Any) -> Configuration:
    """Return a configuration with answers of up to 40 tokens."""
    return Configuration.model_validate(
        {
            "model_name": "random:model",
            "backend": "pytorch",
            "fp_precision": "float32",
            "max_input_tokens": 2,
            "max_output_tokens": 40,
            "output_length": "natural",
            "decoder": decoder or {},
            "parameters": {"batch_size": len(PROMPTS)} | parameters,
        }
    )


def answers(engine: TransformersEngine, configuration: Configuration) -> list[int]:
    """Return the lengths of the answers of one pass, which stand for the answers."""
    report = engine.run_pass(PROMPTS, configuration, lambda: None)
    return [request.output_tokens for request in report.requests]


@pytest.fixture(scope="module")
def engine(model: Path) -> TransformersEngine:
    return load(wanted(), str(model))


# --- Answers ---

HOT = {"temperature": 1.5, "top_k": 0, "top_p": 1.0}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(
            {"preset": "deterministic"},
            {"preset": "standard"},
            marks=pytest.mark.key("defaults.decoder.preset"),
        ),
        pytest.param(
            {"do_sample": False}, {"do_sample": True}, marks=pytest.mark.key("defaults.decoder.do_sample")
        ),
        pytest.param(HOT, HOT | {"temperature": 0.5}, marks=pytest.mark.key("defaults.decoder.temperature")),
        pytest.param(HOT, HOT | {"top_k": 2}, marks=pytest.mark.key("defaults.decoder.top_k")),
        pytest.param(HOT, HOT | {"top_p": 0.5}, marks=pytest.mark.key("defaults.decoder.top_p")),
        pytest.param(
            {}, {"repetition_penalty": 3.0}, marks=pytest.mark.key("defaults.decoder.repetition_penalty")
        ),
    ],
    ids=str,
)
def test_the_decoder_chooses_the_tokens(
    engine: TransformersEngine, one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Each key of the decoder changes answers that are otherwise the same in each pass."""
    assert answers(engine, wanted(one)) == answers(engine, wanted(one))
    assert answers(engine, wanted(one)) != answers(engine, wanted(other))


@pytest.mark.key("defaults.output_length")
def test_answers_end_or_are_filled(engine: TransformersEngine) -> None:
    """Exact answers have the length that was asked for; natural ones end, some of them early."""
    natural = answers(engine, wanted())
    assert answers(engine, wanted().model_copy(update={"output_length": "exact"})) == [40] * len(PROMPTS)
    assert min(natural) < 40


@pytest.mark.key("pytorch.min_p")
def test_min_p_cuts_unlikely_tokens(engine: TransformersEngine) -> None:
    """A sampling decoder answers differently when it may take likely tokens only."""
    assert answers(engine, wanted(HOT)) != answers(engine, wanted(HOT, min_p=0.5))


@pytest.mark.key("pytorch.no_repeat_ngram_size")
def test_repeated_ngrams_are_left_out(engine: TransformersEngine) -> None:
    """A greedy decoder that may repeat no token answers differently from one that may."""
    assert answers(engine, wanted()) != answers(engine, wanted(no_repeat_ngram_size=1))


@pytest.mark.key("pytorch.num_beams")
def test_beams_find_other_answers(engine: TransformersEngine) -> None:
    """A search over beams finds other answers than the greedy choice."""
    assert answers(engine, wanted()) != answers(engine, wanted(num_beams=3))


# --- How it computes ---


@pytest.mark.key("pytorch.num_threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_torch_has_the_threads_that_were_asked_for(model: Path, threads: int) -> None:
    """Torch itself computes with as many threads as the configuration says."""
    load(wanted(num_threads=threads), str(model))
    assert torch.get_num_threads() == threads


@pytest.mark.key("pytorch.device")
def test_the_device_is_the_one_that_was_asked_for(model: Path) -> None:
    """The weights lie on the CPU if that is asked, and a GPU that is not there is not replaced."""
    on_cpu = load(wanted(device="cpu"), str(model))
    assert on_cpu.effective()["device"] == "cpu"
    if torch.cuda.is_available():
        assert load(wanted(device="cuda"), str(model)).effective()["device"] == "cuda"
    else:
        with pytest.raises(EngineError, match="torch finds no CUDA device here"):
            load(wanted(device="cuda"), str(model))


@pytest.mark.key("pytorch.torch_compile", "pytorch.torch_compile_backend")
def test_the_compiler_and_its_backend_are_those_that_were_asked_for(model: Path) -> None:
    """Without torch_compile nothing is compiled; with it graphs go to the backend that is named."""
    found = []
    values: list[dict[str, Any]] = [
        {"torch_compile": False},
        {"torch_compile": True, "torch_compile_backend": "eager"},
        {"torch_compile": True, "torch_compile_backend": "aot_eager"},
    ]
    for asked in values:
        short = wanted(**asked).model_copy(update={"max_output_tokens": 2})
        compiled = load(short, str(model))
        answers(compiled, short)
        applied = compiled.effective()
        found.append((applied["torch_compile_backend"], applied["compiled_graphs"] > 0))
        torch.compiler.reset()
    assert found == [(None, False), ("eager", True), ("aot_eager", True)]


# --- How weights are stored ---


def stored(model: Path, **asked: Any) -> tuple[dict[str, int], Any]:
    """Return the number of parameters by dtype, and a layer that is quantised if any is."""
    pytest.importorskip("bitsandbytes")
    loaded = load(wanted(**asked), str(model))
    return loaded.effective()["parameter_count_by_dtype"], loaded._model.model.layers[0].mlp.up_proj


@pytest.mark.key("pytorch.load_in_8bit", "pytorch.load_in_4bit", "pytorch.quantization_config")
def test_weights_are_stored_in_the_bits_that_were_asked_for(model: Path) -> None:
    """Quantised weights are bytes: 8 bits one a weight, 4 bits one for two; both ways of asking do the same."""
    plain, _ = stored(model)
    eight, _ = stored(model, load_in_8bit=True)
    four, _ = stored(model, load_in_4bit=True)
    same, _ = stored(model, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert set(plain) == {"float32"}
    assert eight["int8"] == 2 * four["uint8"] > 0
    assert same == four


@pytest.mark.key(
    "pytorch.bnb_4bit_quant_type", "pytorch.bnb_4bit_compute_dtype", "pytorch.bnb_4bit_use_double_quant"
)
def test_four_bits_are_those_that_were_asked_for(model: Path) -> None:
    """The layers themselves have type, computing dtype and double quantisation of the configuration."""
    _, usual = stored(model, load_in_4bit=True)
    _, other = stored(
        model,
        load_in_4bit=True,
        bnb_4bit_quant_type="fp4",
        bnb_4bit_compute_dtype="bfloat16",
        bnb_4bit_use_double_quant=True,
    )
    found = [
        (layer.weight.quant_state.quant_type, layer.compute_dtype, layer.weight.quant_state.nested)
        for layer in (usual, other)
    ]
    assert found == [("nf4", torch.float16, False), ("fp4", torch.bfloat16, True)]
