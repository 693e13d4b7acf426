from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo.config as dynamo_config
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pytest_llem.backends.application import prove, verify
from pytest_llem.backends.base import EngineError, PassReport
from pytest_llem.backends.pytorch import memory
from pytest_llem.backends.pytorch.engine import TransformersEngine, load
from pytest_llem.records import Configuration, Decoder

VOCABULARY, BOS, END = 32, 1, 20
POSITIONS = 64
QUICKSTART_MODEL = Path(__file__).parents[2] / "campaigns" / "models" / "tiny-llama"

Prompts = list[list[int]]


def architecture(**changes: Any) -> LlamaConfig:
    """Return a Llama of some 20,000 parameters."""
    return LlamaConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": VOCABULARY,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": POSITIONS,
            "bos_token_id": BOS,
            "eos_token_id": END,
            "pad_token_id": 0,
            # The default, 0.02, leaves so small a model with nearly equal logits.
            "initializer_range": 0.3,
        }
        | changes
    )


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep models this small on one core: more threads wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an architecture alone."""
    folder = tmp_path_factory.mktemp("untrained")
    architecture().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trained model, so to speak: after token t it always says t + 1, and END ends a sequence."""
    folder = tmp_path_factory.mktemp("counting")
    model = LlamaForCausalLM(architecture())
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(VOCABULARY))
        model.lm_head.weight.copy_(torch.eye(VOCABULARY).roll(1, dims=0))
    # What authors recommend beside their weights; none of it may reach a measurement.
    model.generation_config = GenerationConfig(
        eos_token_id=[END, 25],
        bos_token_id=BOS,
        pad_token_id=0,
        do_sample=True,
        suppress_tokens=[END],
        max_length=7,
    )
    model.save_pretrained(folder)
    return folder


def wanted(*, random: bool = True, precision: str = "float32", **settings: Any) -> Configuration:
    """Return a configuration; what is no field of it is a parameter of the engine."""
    own = {name: settings.pop(name) for name in list(settings) if name in Configuration.model_fields}
    return Configuration.model_validate(
        {
            "model_name": "random:tiny" if random else "tiny",
            "backend": "pytorch",
            "fp_precision": precision,
            "max_input_tokens": 16,
            "max_output_tokens": 6,
            "parameters": settings,
        }
        | own
    )


def serve(engine: TransformersEngine, prompts: Prompts, configuration: Configuration) -> PassReport:
    return engine.run_pass(prompts, configuration, lambda: None)


def loaded_and_served(
    folder: Path, prompts: Prompts, configuration: Configuration
) -> tuple[TransformersEngine, PassReport]:
    engine = load(configuration, str(folder))
    return engine, serve(engine, prompts, configuration)


def output_lengths(report: PassReport) -> list[int]:
    return [request.output_tokens for request in report.requests]


def batch_count(report: PassReport) -> int:
    return len({request.submitted_s for request in report.requests})


@pytest.fixture(scope="module")
def shared(untrained: Path) -> TransformersEngine:
    """Return an engine that serves one test's configuration after another's, as a launch does."""
    return load(wanted(), str(untrained))


@pytest.fixture(scope="module")
def counter(counting: Path) -> TransformersEngine:
    return load(wanted(random=False), str(counting))


UNEVEN = [[3, 4, 5, 6, 7], [8, 9, 10], [11, 12, 13, 14, 15], [16, 17, 18]]


class TestCounts:
    def test_exact_length(self, counter: TransformersEngine) -> None:
        """With an exact length every request has it, even where the model says its end token on the way."""
        report = serve(counter, [[17], [3, 19]], wanted(random=False, max_output_tokens=9, batch_size=2))

        assert output_lengths(report) == [9, 9]

    def test_natural_length(self, counter: TransformersEngine) -> None:
        """With a natural length a request ends with its end token, which counts; what follows does not."""
        report = serve(
            counter,
            [[4, 15], [18], [3]],
            wanted(random=False, max_output_tokens=12, batch_size=3, output_length="natural"),
        )

        assert output_lengths(report) == [5, 2, 12]
        assert [request.prompt_tokens for request in report.requests] == [2, 1, 1]

    def test_second_end_token(self, counter: TransformersEngine) -> None:
        """Every end token that the model's own generation settings name ends a request."""
        report = serve(counter, [[23]], wanted(random=False, max_output_tokens=8, output_length="natural"))

        assert output_lengths(report) == [2]

    def test_padding(self, counter: TransformersEngine) -> None:
        """Padding tokens are those left of short prompts and those after an early end, each computed once."""
        report = serve(
            counter,
            [[4, 15], [18]],
            wanted(random=False, max_output_tokens=12, batch_size=2, output_length="natural"),
        )

        assert report.padding_tokens == 1 + (5 - 2)

    @pytest.mark.key("pytorch.batching_strategy")
    @pytest.mark.parametrize(
        ("strategy", "padding"), [("static", 2 * 2), ("sorted_static", 0)], ids=["static", "sorted"]
    )
    def test_sorting_saves_padding(self, shared: TransformersEngine, strategy: str, padding: int) -> None:
        """Sorted batches hold prompts of like length, and requests keep the order of the prompts."""
        report = serve(shared, UNEVEN, wanted(batch_size=2, batching_strategy=strategy))

        assert report.padding_tokens == padding
        assert [request.prompt_tokens for request in report.requests] == [5, 3, 5, 3]

    @pytest.mark.key("pytorch.batch_size")
    @pytest.mark.parametrize(("batch_size", "batches"), [(1, 4), (3, 2), (4, 1), (64, 1)])
    def test_batch_size(self, shared: TransformersEngine, batch_size: int, batches: int) -> None:
        """A pass takes as many calls as there are batches of `batch_size`, the last one perhaps smaller."""
        assert batch_count(serve(shared, UNEVEN, wanted(batch_size=batch_size))) == batches

    def test_batch_does_not_change_answers(self, shared: TransformersEngine) -> None:
        """A prompt gets the same answer alone and, padded, beside longer ones; lengths show it."""
        prompts = [[3 + (5 * row + column) % 17 for column in range(1 + 3 * row)] for row in range(5)]
        settings: dict[str, Any] = {
            "output_length": "natural",
            "max_output_tokens": 40,
            "decoder": Decoder(repetition_penalty=3.0),
        }

        alone = output_lengths(serve(shared, prompts, wanted(batch_size=1, **settings)))
        together = output_lengths(serve(shared, prompts, wanted(batch_size=5, **settings)))

        assert alone == together
        assert len(set(alone)) > 1

    def test_beams(self, shared: TransformersEngine) -> None:
        """Beam search serves one answer a prompt, of the exact length."""
        report = serve(shared, UNEVEN, wanted(batch_size=2, num_beams=3))

        assert output_lengths(report) == [6] * 4
        assert shared.effective()["num_beams"] == 3


class TestTimes:
    def test_order_of_events(self, shared: TransformersEngine) -> None:
        """A request is submitted, has a first token and is complete in that order; batches do not overlap."""
        report = serve(shared, UNEVEN, wanted(batch_size=2))

        first, last = report.requests[0], report.requests[-1]
        for request in report.requests:
            assert request.first_token_s is not None
            assert request.submitted_s < request.first_token_s < request.completed_s
        assert first.completed_s <= last.submitted_s

    def test_streaming(self, counter: TransformersEngine) -> None:
        """With streaming each token has its time, and an answer is complete at its own last token."""
        settings: dict[str, Any] = {"max_output_tokens": 12, "batch_size": 2, "output_length": "natural"}

        plain = serve(counter, [[4, 15], [18]], wanted(random=False, **settings))
        report = serve(counter, [[4, 15], [18]], wanted(random=False, streaming=True, **settings))

        assert output_lengths(report) == output_lengths(plain) == [5, 2]
        assert [request.token_s for request in plain.requests] == [None, None]
        for request in report.requests:
            assert request.token_s is not None
            assert len(request.token_s) == request.output_tokens
            assert list(request.token_s) == sorted(request.token_s)
            assert (request.token_s[0], request.token_s[-1]) == (request.first_token_s, request.completed_s)
        long, short = report.requests
        assert short.completed_s < long.completed_s

    @pytest.mark.parametrize("length", ["exact", "natural"])
    def test_streaming_of_beams(self, shared: TransformersEngine, length: str) -> None:
        """A search over beams has a time for every token of its answers too."""
        report = serve(
            shared, UNEVEN, wanted(batch_size=4, num_beams=3, streaming=True, output_length=length)
        )

        for request in report.requests:
            assert request.token_s is not None
            assert len(request.token_s) == request.output_tokens

    def test_beats(self, shared: TransformersEngine) -> None:
        """Each step of each batch beats, so that one long batch does not look like a hang."""
        beats: list[None] = []

        shared.run_pass(UNEVEN, wanted(batch_size=2), lambda: beats.append(None))

        assert len(beats) == 2 * 6


class TestSampling:
    def lengths(self, engine: TransformersEngine, seed: int) -> list[int]:
        configuration = wanted(
            output_length="natural",
            max_output_tokens=40,
            batch_size=4,
            random_seed=seed,
            decoder=Decoder(temperature=2.0, top_k=0),
        )
        return output_lengths(serve(engine, [[3 + row] for row in range(16)], configuration))

    def test_same_seed(self, shared: TransformersEngine) -> None:
        """Two passes with one seed sample the same answers."""
        assert self.lengths(shared, 7) == self.lengths(shared, 7)

    def test_other_seed(self, shared: TransformersEngine) -> None:
        """Another seed samples other answers."""
        assert self.lengths(shared, 7) != self.lengths(shared, 8)

    def test_settings_are_reported(self, shared: TransformersEngine) -> None:
        """The sampling settings that `generate()` was given are among what was applied."""
        serve(shared, UNEVEN, wanted(decoder=Decoder(preset="creative"), min_p=0.1))

        effective = shared.effective()
        names = ("do_sample", "temperature", "top_p", "top_k", "repetition_penalty", "min_p")
        assert [effective[name] for name in names] == [True, 0.8, 0.9, 50, 1.1, 0.1]

    def test_min_p_without_sampling(self, shared: TransformersEngine) -> None:
        """A sampling parameter beside greedy decoding is refused instead of having no effect."""
        asked = wanted(min_p=0.1)
        serve(shared, UNEVEN, asked)
        with pytest.raises(EngineError, match=r"did not apply min_p \(asked 0.1, applied 0.0\)"):
            prove(shared, asked)


class TestApplied:
    @pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
    def test_precision(self, untrained: Path, precision: str) -> None:
        """Weights have the precision that was asked for."""
        engine, _ = loaded_and_served(untrained, UNEVEN, wanted(precision=precision))

        assert engine.effective()["fp_precision"] == precision
        assert list(engine.effective()["parameter_count_by_dtype"]) == [precision]

    @pytest.mark.key("pytorch.attn_implementation")
    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    def test_attention(self, untrained: Path, attention: str) -> None:
        """The model computes attention as asked."""
        engine, _ = loaded_and_served(untrained, UNEVEN, wanted(attn_implementation=attention))

        assert engine.effective()["attn_implementation"] == attention

    @pytest.mark.key("pytorch.cache_implementation", "pytorch.use_cache")
    @pytest.mark.parametrize(
        ("asked", "kind"),
        [
            ({}, "dynamic"),
            ({"cache_implementation": "dynamic"}, "dynamic"),
            ({"cache_implementation": "static"}, "static"),
            ({"use_cache": False}, None),
        ],
        ids=["default", "dynamic", "static", "none"],
    )
    def test_cache(self, shared: TransformersEngine, asked: dict[str, Any], kind: str | None) -> None:
        """The kind of cache that is reported is that of the object that the model filled."""
        serve(shared, UNEVEN, wanted(batch_size=2, **asked))

        assert shared.effective()["cache_implementation"] == kind
        assert shared.effective()["use_cache"] is (kind is not None)

    def test_static_cache_has_its_own_length(self, shared: TransformersEngine) -> None:
        """A static cache is as long as its own configuration needs, whatever was served before."""
        serve(shared, UNEVEN, wanted(cache_implementation="static", max_output_tokens=40))
        serve(shared, UNEVEN, wanted(cache_implementation="static"))

        assert vars(shared._model)["_previous_max_cache_length"] == 16 + 6

    def test_threads(self, untrained: Path) -> None:
        """The engine computes with the number of threads that was asked for."""
        engine, _ = loaded_and_served(untrained, UNEVEN, wanted(num_threads=2))

        assert engine.effective()["num_threads"] == 2

    def test_everything_asked_is_known(self, shared: TransformersEngine) -> None:
        """After a pass nothing that can be asked is unknown: each value, changed, is caught by its name."""
        configuration = wanted(
            batch_size=2, device="cpu", cache_implementation="dynamic", num_threads=torch.get_num_threads()
        )
        serve(shared, UNEVEN, configuration)
        applied = shared.effective()
        asked = {
            *("fp_precision", "attn_implementation", "torch_compile", "device", "num_threads"),
            *("batch_size", "batching_strategy", "use_cache", "cache_implementation", "num_beams"),
            *("output_length", "max_output_tokens", "no_repeat_ngram_size", "min_p"),
            *("do_sample", "temperature", "top_p", "top_k", "repetition_penalty"),
        }

        prove(shared, configuration)
        assert shared.asked(configuration).keys() == asked
        for name in asked:
            with pytest.raises(EngineError, match=rf"did not apply {name} \(asked .*, applied 'other'\)"):
                verify(shared.asked(configuration), applied | {name: "other"})

    def test_random_weights_are_one_draw(self, untrained: Path) -> None:
        """Random weights are the same in each load, whatever the configuration's own seed, and called so."""
        one = load(wanted(random_seed=1), str(untrained))
        two = load(wanted(random_seed=2, attn_implementation="eager"), str(untrained))

        weights = zip(one._model.parameters(), two._model.parameters(), strict=True)
        assert all(torch.equal(mine, other) for mine, other in weights)
        assert (one.effective()["weights"], one.effective()["weights_seed"]) == ("random", 0)

    def test_trained_weights_have_no_seed(self, counter: TransformersEngine) -> None:
        """Weights from a file are called trained."""
        assert (counter.effective()["weights"], counter.effective()["weights_seed"]) == ("trained", None)

    def test_special_tokens(self, counter: TransformersEngine) -> None:
        """The special ids of the model's files are known, so that synthetic prompts avoid them."""
        assert counter.special_token_ids == {0, BOS, END, 25}
        assert counter.vocabulary_size == VOCABULARY


class TestCompile:
    COMPILED = wanted(torch_compile=True, torch_compile_backend="eager", batch_size=2)

    @pytest.fixture(autouse=True)
    def _clean_compiler(self) -> Iterator[None]:
        yield
        torch.compiler.reset()

    def test_applied(self, untrained: Path) -> None:
        """A compiled model reports mode, backend and that graphs were compiled, and serves as before."""
        engine, report = loaded_and_served(untrained, UNEVEN, self.COMPILED)

        effective = engine.effective()
        assert (effective["torch_compile"], effective["torch_compile_backend"]) == ("default", "eager")
        assert effective["compiled_graphs"] > 0
        assert output_lengths(report) == [6] * 4

    def test_not_applied(self, untrained: Path) -> None:
        """A model whose calls go around the compiler is found out after a pass."""
        engine = load(self.COMPILED, str(untrained))
        engine._model._compiled_call_impl = None
        serve(engine, UNEVEN, self.COMPILED)

        with pytest.raises(EngineError, match=r"torch_compile \(asked 'default', applied False\)"):
            prove(engine, self.COMPILED)

    def test_no_memory_of_other_shapes(self, untrained: Path) -> None:
        """Code compiled for one configuration is not reused, generalised, by the next one."""
        engine, _ = loaded_and_served(untrained, UNEVEN, self.COMPILED)
        alone = engine.effective()["compiled_graphs"]

        serve(engine, UNEVEN, wanted(torch_compile=True, torch_compile_backend="eager", batch_size=3))
        serve(engine, UNEVEN, self.COMPILED)

        assert engine.effective()["compiled_graphs"] == alone

    def test_too_many_shapes(self, untrained: Path) -> None:
        """Where torch would silently go on without compiled code, the pass fails."""
        engine = load(self.COMPILED, str(untrained))

        with (
            dynamo_config.patch(recompile_limit=1),
            pytest.raises(EngineError, match="torch would go on without compiled code"),
        ):
            serve(engine, UNEVEN, self.COMPILED)

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            (
                {"torch_compile": "reduce-overhead"},
                "reduce-overhead records CUDA graphs, and the model is on cpu",
            ),
            (
                {"torch_compile": True, "torch_compile_backend": "cudagraphs"},
                "cudagraphs records CUDA graphs, and the model is on cpu",
            ),
            (
                {"torch_compile": "max-autotune-no-cudagraphs", "torch_compile_backend": "eager"},
                "has no effect on eager",
            ),
            (
                {"torch_compile": True, "torch_compile_backend": "nonsense"},
                "nonsense is not known to this torch",
            ),
        ],
        ids=["mode", "backend", "mode of another backend", "unknown backend"],
    )
    def test_without_effect(self, untrained: Path, asked: dict[str, Any], message: str) -> None:
        """A mode or backend that would have no effect here is refused when the model is loaded."""
        with pytest.raises(EngineError, match=message):
            load(wanted(device="cpu", **asked), str(untrained))


class TestQuantization:
    @pytest.mark.parametrize(
        ("asked", "applied"),
        [
            ({"load_in_8bit": True}, {"load_in_8bit": True}),
            (
                {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": "float32"},
                {"bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": "float32", "load_in_4bit": True},
            ),
            (
                {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
                {"quant_method": "bitsandbytes", "load_in_4bit": True},
            ),
        ],
        ids=["8 bit", "4 bit", "quantization_config"],
    )
    def test_applied(self, asked: dict[str, Any], applied: dict[str, Any]) -> None:
        """Random weights too can be quantised: most are stored in one byte, and the method is reported."""
        pytest.importorskip("bitsandbytes")

        engine, _ = loaded_and_served(QUICKSTART_MODEL, UNEVEN, wanted(**asked))

        effective = engine.effective()
        assert effective["quantization_config"].items() >= applied.items()
        assert {"int8", "uint8"} & set(effective["parameter_count_by_dtype"])
        assert effective["fp_precision"] == "float32"

    def test_argument_without_effect(self, untrained: Path) -> None:
        """An argument that the quantiser's class swallows is found out after the load."""
        pytest.importorskip("bitsandbytes")
        asked = wanted(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True, "bits": 3})
        engine = load(asked, str(untrained))

        with pytest.raises(EngineError, match=r"quantization_config.bits \(asked 3, applied None\)"):
            prove(engine, asked)

    @pytest.mark.parametrize("name", ["load_in_4bit", "load_in_8bit"])
    def test_package_missing(self, untrained: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """Without bitsandbytes the message says what to install."""
        monkeypatch.setitem(sys.modules, "bitsandbytes", None)
        asked: dict[str, Any] = {name: True}

        with pytest.raises(
            EngineError, match=rf"{name} needs the package bitsandbytes: pip install 'pytest-llem\["
        ):
            load(wanted(**asked), str(untrained))

    def test_unknown_method(self, untrained: Path) -> None:
        """A method that transformers does not know is refused by name."""
        with pytest.raises(EngineError, match="quantization_config: Unknown quantization type, got nonsense"):
            load(wanted(quantization_config={"quant_method": "nonsense"}), str(untrained))


class TestRefusals:
    def test_no_weights(self, untrained: Path) -> None:
        """A folder without weights is refused, unless random ones are asked for."""
        with pytest.raises(
            EngineError, match=r"tiny cannot be loaded: Error no file named model\.safetensors"
        ):
            load(wanted(random=False), str(untrained))

    def test_missing_weight(self, tmp_path: Path) -> None:
        """A checkpoint that lacks some of the weights is refused, not completed at random."""
        model = LlamaForCausalLM(architecture())
        state = model.state_dict()
        del state["model.layers.1.mlp.up_proj.weight"]
        model.save_pretrained(tmp_path, state_dict=state)

        with pytest.raises(
            EngineError, match=r"lacks 1 of the model's weights, such as model\.layers\.1\.mlp"
        ):
            load(wanted(random=False), str(tmp_path))

    def test_unknown_attention(self, untrained: Path) -> None:
        """An attention that transformers does not have is refused with its words."""
        with pytest.raises(
            EngineError, match=r'random:tiny cannot be loaded: .*="nonsense"` is not supported'
        ):
            load(wanted(attn_implementation="nonsense"), str(untrained))

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
    def test_no_cuda(self, untrained: Path) -> None:
        """CUDA is not silently replaced by the CPU."""
        with pytest.raises(EngineError, match="torch finds no CUDA device here"):
            load(wanted(device="cuda"), str(untrained))

    def test_too_long(self, shared: TransformersEngine) -> None:
        """Prompts that with their output exceed the model's positions are refused, with the numbers."""
        with pytest.raises(EngineError, match="make 65 positions, the model has 64"):
            serve(shared, [[3] * 5], wanted(max_output_tokens=60))

    def test_natural_without_end(self, tmp_path: Path) -> None:
        """A natural length needs a model that can end."""
        architecture(eos_token_id=None).save_pretrained(tmp_path)

        with pytest.raises(EngineError, match="output_length: natural needs a model with an end-of-sequence"):
            load(wanted(output_length="natural"), str(tmp_path))

    def test_offloaded_cache_on_cpu(self, untrained: Path) -> None:
        """A cache outside the GPU is refused where there is none."""
        with pytest.raises(
            EngineError, match="cache_implementation: offloaded keeps the cache outside the GPU"
        ):
            load(wanted(device="cpu", cache_implementation="offloaded"), str(untrained))


class TestTokenizer:
    def test_missing(self, shared: TransformersEngine) -> None:
        """A model without a tokenizer says that it can serve synthetic prompts alone."""
        with pytest.raises(EngineError, match=r"the model has no tokenizer, .*; use synthetic prompts"):
            shared.tokenize(["one"])

    def test_present(self, tmp_path: Path) -> None:
        """Texts become the ids of the model's own tokenizer, each as long as its text."""
        from tokenizers import Tokenizer, models, pre_tokenizers

        words = Tokenizer(models.WordLevel({"?": 0, "one": 3, "two": 4}, unk_token="?"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        architecture().save_pretrained(tmp_path)
        PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(tmp_path)

        assert load(wanted(), str(tmp_path)).tokenize(["one two", "two"]) == [[3, 4], [4]]


def test_peak_memory_is_that_of_the_configuration(shared: TransformersEngine) -> None:
    """The peak covers the process, and what was freed before it began anew is not in it."""
    device = torch.device("cpu")
    held = torch.ones(2**26)
    high = shared.memory_peak_bytes()
    del held
    memory.forget_peak(device)

    assert high is not None
    assert high > 2**28
    assert memory.peak_bytes(device) < high - 2**27


def test_drain_after_a_pass(shared: TransformersEngine) -> None:
    """All requests are complete when a drained engine has served a pass."""
    report = serve(shared, UNEVEN, wanted())
    shared.drain()

    assert len(report.requests) == len(UNEVEN)


def test_import_is_safe_to_fork() -> None:
    """The import of the engine starts no thread and no CUDA, so that a forkserver may preload it."""
    code = (
        "import os, pytest_llem.backends.pytorch.engine, torch;"
        "print(len(os.listdir('/proc/self/task')), torch.cuda.is_initialized())"
    )
    # numpy's OpenBLAS starts threads; the worker turns them off in the same way.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["1", "False"]


def test_quickstart_model() -> None:
    """The model of the runnable campaigns loads, serves, and is small enough for any CPU."""
    configuration = wanted(max_input_tokens=64, max_output_tokens=4, batch_size=8)

    engine, report = loaded_and_served(QUICKSTART_MODEL, [[5] * 64] * 8, configuration)

    assert output_lengths(report) == [4] * 8
    assert 4e6 < engine.effective()["parameter_count"] < 10e6
