"""The calls that the `tensorrt` engine makes of the LLM API, against a stand-in that takes the documented ones only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_llem.backends.application import prove
from pytest_llem.backends.base import Demanding, EngineError, Request, Scheduler
from pytest_llem.backends.tensorrt import model
from pytest_llem.backends.tensorrt.engine import TensorRTEngine
from pytest_llem.backends.tensorrt.spec import TensorRTParameters
from pytest_llem.records import Configuration, Load
from trtllm import install, write_model

PROMPTS = [[3] * 40, [4] * 40, [5] * 40]


@pytest.fixture
def llm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module that calls TensorRT-LLM, with the stand-in on the path."""
    monkeypatch.syspath_prepend(install(tmp_path / "library"))
    monkeypatch.setenv("TRTLLM_STANDIN_CALLS", str(tmp_path / "calls"))
    from pytest_llem.backends.tensorrt import llm as found  # only now it can be imported

    yield found
    ours = ("tensorrt_llm", "pytest_llem.backends.tensorrt.llm")
    for name in [name for name in sys.modules if f"{name}.".startswith(tuple(f"{one}." for one in ours))]:
        del sys.modules[name]
    import pytest_llem.backends.tensorrt as package  # it holds the module too

    del package.llm


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


Open = Callable[..., TensorRTEngine]


@pytest.fixture
def opened(llm: ModuleType, folder: Path, tmp_path: Path) -> Iterator[Open]:
    """Return a function that loads an engine for a configuration; parameters by name, the rest of it by `wanted`."""
    live: list[Any] = []

    def load(wanted: Configuration | None = None, **parameters: Any) -> TensorRTEngine:
        it = configuration(wanted, **parameters)
        served, section = model.read(folder), TensorRTParameters.model_validate(it.parameters)
        if section.backend == "pytorch":
            live.append(llm.open_checkpoint(it, served))
            return TensorRTEngine(live[-1], served, it, None)
        llm.compile_model(it, served, tmp_path / "engine")
        live.append(llm.open_engine(section, served, tmp_path / "engine"))
        return TensorRTEngine(live[-1], served, it, tmp_path / "engine")

    yield load
    for each in live:
        each.shutdown()


def configuration(wanted: Configuration | None = None, **parameters: Any) -> Configuration:
    """Return `wanted` with a whole section of parameters."""
    section = TensorRTParameters.model_validate(parameters).model_dump(mode="json")
    base = wanted or Configuration(model_name="model", backend="tensorrt", max_output_tokens=4)
    return base.model_copy(update={"parameters": section})


def calls(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = (folder / "calls").read_text().splitlines()
    return [call for line in lines if (call := json.loads(line))["call"] == name]


def silence() -> None:
    pass


# --- Building and loading ---


def test_a_build_is_one_documented_call_that_is_saved_and_shut_down(
    opened: Open, folder: Path, tmp_path: Path
) -> None:
    """What shapes an engine goes into `BuildConfig` and `QuantConfig`, and nothing of the builder stays."""
    opened(
        max_batch_size=2, max_seq_len=64, quant_algo="FP8", kv_cache_quant_algo="FP8", multiple_profiles=True
    )
    build, load = calls(tmp_path, "_tensorrt_engine.LLM")
    assert build["model"] == str(folder)
    assert (build["dtype"], build["load_format"], build["fast_build"]) == ("float16", "auto", False)
    assert build["quant_config"] == {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}
    shaped = {"max_batch_size": 2, "max_seq_len": 64, "strongly_typed": True, "max_input_len": 1024}
    assert {name: build["build_config"][name] for name in shaped} == shaped
    assert build["build_config"]["plugin_config"]["multiple_profiles"] is True
    assert [call["engine_dir"] for call in calls(tmp_path, "save")] == [str(tmp_path / "engine")]
    assert len(calls(tmp_path, "shutdown")) == 1
    assert load["model"] == str(tmp_path / "engine")
    assert not {"build_config", "quant_config", "dtype", "fast_build", "load_format"} & load.keys()


EXECUTED = {
    "max_batch_size": ("max_batch_size", 2, 3),
    "max_input_len": ("max_input_len", 64, 128),
    "max_seq_len": ("max_seq_len", 128, 256),
    "max_num_tokens": ("max_num_tokens", 512, 1024),
    "tensor_parallel_size": ("tensor_parallel_size", 1, 2),
    "pipeline_parallel_size": ("pipeline_parallel_size", 1, 2),
    "enable_chunked_prefill": ("enable_chunked_prefill", False, True),
    "enable_block_reuse": ("kv_cache_config.enable_block_reuse", False, True),
    "free_gpu_memory_fraction": ("kv_cache_config.free_gpu_memory_fraction", 0.5, 0.9),
    "capacity_scheduler_policy": (
        "scheduler_config.capacity_scheduler_policy",
        "MAX_UTILIZATION",
        "GUARANTEED_NO_EVICT",
    ),
    "trust_remote_code": ("trust_remote_code", False, True),
}
"""Parameters that every LLM is told, whatever it runs: where in its arguments, and two values."""

COMPILED = {
    "max_batch_size": ("build_config.max_batch_size", 2, 3),
    "max_input_len": ("build_config.max_input_len", 64, 128),
    "max_seq_len": ("build_config.max_seq_len", 128, 256),
    "max_num_tokens": ("build_config.max_num_tokens", 512, 1024),
    "strongly_typed": ("build_config.strongly_typed", False, True),
    "multiple_profiles": ("build_config.plugin_config.multiple_profiles", False, True),
    "fast_build": ("fast_build", False, True),
    "quant_algo": ("quant_config.quant_algo", "FP8", "W4A16_AWQ"),
    "kv_cache_quant_algo": ("quant_config.kv_cache_quant_algo", "FP8", "INT8"),
}
"""Parameters that are compiled in, likewise."""


def argument(call: dict[str, Any], path: str) -> Any:
    value: Any = call
    for name in path.split("."):
        value = value[name]
    return value


@pytest.mark.key(
    "tensorrt.backend",
    "tensorrt.max_batch_size",
    "tensorrt.max_input_len",
    "tensorrt.max_seq_len",
    "tensorrt.max_num_tokens",
    "tensorrt.tensor_parallel_size",
    "tensorrt.pipeline_parallel_size",
    "tensorrt.enable_chunked_prefill",
    "tensorrt.enable_block_reuse",
    "tensorrt.free_gpu_memory_fraction",
    "tensorrt.capacity_scheduler_policy",
    "tensorrt.trust_remote_code",
)
@pytest.mark.parametrize("backend", ["tensorrt", "pytorch"])
@pytest.mark.parametrize("name", EXECUTED)
def test_what_the_executor_is_told_is_what_was_asked(
    opened: Open, tmp_path: Path, name: str, backend: str
) -> None:
    """Limits, cache, scheduler and ranks are arguments of both LLM classes, with each of two values."""
    path, *values = EXECUTED[name]
    for value in values:
        opened(backend=backend, **{name: value})
        call = calls(tmp_path, {"tensorrt": "_tensorrt_engine.LLM", "pytorch": "LLM"}[backend])[-1]
        assert argument(call, path) == value


@pytest.mark.key(
    "tensorrt.strongly_typed",
    "tensorrt.multiple_profiles",
    "tensorrt.fast_build",
    "tensorrt.quant_algo",
    "tensorrt.kv_cache_quant_algo",
)
@pytest.mark.parametrize("name", COMPILED)
def test_what_is_compiled_in_is_what_was_asked(opened: Open, tmp_path: Path, name: str) -> None:
    """Sizes, types and quantisation go to the build, with each of two values, and the engine says so if it can."""
    path, *values = COMPILED[name]
    for value in values:
        engine = opened(**{name: value})
        assert argument(calls(tmp_path, "_tensorrt_engine.LLM")[-2], path) == value
        assert engine.effective().get(name, value) == value


def test_random_weights_are_dummy_weights(opened: Open, tmp_path: Path) -> None:
    """An architecture without trained weights is loaded in the way that TensorRT-LLM has for it."""
    opened(configuration().model_copy(update={"model_name": "random:model"}), backend="pytorch")
    assert calls(tmp_path, "LLM")[0]["load_format"] == "dummy"


@pytest.mark.key("tensorrt.speculative_model", "tensorrt.max_draft_len")
def test_a_draft_model_is_a_speculative_config(opened: Open, tmp_path: Path) -> None:
    """Speculative decoding goes to the PyTorch backend as `DraftTargetDecodingConfig`; without it there is none."""
    assert opened(backend="pytorch").effective()["speculative_model"] is None
    for draft, length in (("/drafts/small", 3), ("/drafts/large", 5)):
        engine = opened(backend="pytorch", speculative_model=draft, max_draft_len=length)
        wanted = {"speculative_model": draft, "max_draft_len": length}
        assert calls(tmp_path, "LLM")[-1]["speculative_config"] == wanted
        assert wanted.items() <= engine.effective().items()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "tokenizer_config.json"])
def test_a_tokenizer_is_loaded_from_the_model(opened: Open, folder: Path, tmp_path: Path, name: str) -> None:
    """A compiled engine has none of its own, so it is told where the model's lies."""
    (folder / name).touch()
    engine = opened()
    assert {call["tokenizer"] for call in calls(tmp_path, "_tensorrt_engine.LLM")} == {str(folder)}
    assert engine.tokenize(["count the letters"]) == [[7, 5, 9]]


def test_texts_need_a_tokenizer(opened: Open, tmp_path: Path) -> None:
    """Without one TensorRT-LLM is told so, and a text is refused with what to do."""
    engine = opened()
    assert all(call["skip_tokenizer_init"] for call in calls(tmp_path, "_tensorrt_engine.LLM"))
    with pytest.raises(EngineError, match="use synthetic prompts"):
        engine.tokenize(["text"])


@pytest.mark.parametrize(
    ("mood", "error", "message"),
    [
        ("refuse-build", EngineError, "TensorRT-LLM refuses: the stand-in refuses to build"),
        ("refuse-load", EngineError, "TensorRT-LLM refuses: the stand-in refuses to load"),
        ("oom-build", MemoryError, "out of memory"),
    ],
)
def test_an_error_has_its_class(
    opened: Open, monkeypatch: pytest.MonkeyPatch, mood: str, error: type[Exception], message: str
) -> None:
    """A refusal is the campaign's business and is told in one line; exhausted memory is its own class."""
    monkeypatch.setenv("TRTLLM_STANDIN_MOOD", mood)
    with pytest.raises(error, match=message):
        opened()


def test_a_version_without_engines_says_what_to_do(
    opened: Open, llm: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the module of compiled engines is gone, the message names the version and both ways out."""
    monkeypatch.setitem(sys.modules, "tensorrt_llm._tensorrt_engine", None)
    monkeypatch.setattr(llm.tensorrt_llm, "__version__", "1.4.0")
    with pytest.raises(EngineError, match=r"TensorRT-LLM 1\.4\.0 builds no .* set backend: pytorch"):
        opened()


# --- What was applied ---


@pytest.mark.parametrize("backend", ["tensorrt", "pytorch"])
def test_everything_that_was_asked_is_proved(opened: Open, backend: str) -> None:
    """The engine's own objects confirm each parameter, but for the haste of a build, which leaves no trace."""
    engine = opened(backend=backend, max_batch_size=2, max_seq_len=64, max_num_tokens=512)
    wanted = configuration(backend=backend, max_batch_size=2, max_seq_len=64, max_num_tokens=512)
    assert isinstance(engine, Demanding)
    assert prove(engine, wanted).unconfirmed == (("fast_build",) if backend == "tensorrt" else ())


def test_an_engine_that_is_smaller_than_asked_is_refused(opened: Open) -> None:
    """A limit that was built in and clamps what a campaign asks for is named with both values."""
    engine = opened(max_batch_size=2)
    with pytest.raises(EngineError, match=r"max_batch_size \(asked 4, applied 2\)"):
        prove(engine, configuration(max_batch_size=4))


def test_memory_is_that_of_the_statistics(opened: Open) -> None:
    """The executor tells how much GPU memory it used at each iteration; the peak is the largest."""
    assert opened().memory_peak_bytes() == 4_000_000_000


# --- Sampling ---


def sampled(opened: Open, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Return the arguments of `SamplingParams` that were set."""
    wanted = configuration(
        Configuration.model_validate({"model_name": "model", "max_output_tokens": 4} | changes)
    )
    opened(wanted).run_pass(PROMPTS, wanted, silence)
    defaults = {"detokenize": True, "return_perf_metrics": False, "ignore_eos": False, "max_tokens": 32}
    every = calls(tmp_path, "generate_async")[0]["sampling_params"]
    return {
        name: value for name, value in every.items() if value is not None and defaults.get(name) != value
    } | {"add_special_tokens": None}


ALWAYS = {"max_tokens": 4, "seed": 42, "detokenize": False, "return_perf_metrics": True}


def test_greedy_decoding_takes_the_most_probable_token(opened: Open, tmp_path: Path) -> None:
    """Without sampling the choice is among one, and no temperature is set."""
    found = sampled(opened, tmp_path)
    expected = ALWAYS | {"top_k": 1, "repetition_penalty": 1.0, "ignore_eos": True, "end_id": -1}
    assert found == expected | {"add_special_tokens": None}


def test_a_decoder_is_applied_by_name(opened: Open, tmp_path: Path) -> None:
    """Temperature, top_p and top_k go into SamplingParams as they are."""
    decoder = {"temperature": 0.5, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}
    found = sampled(opened, tmp_path, decoder=decoder)
    assert decoder.items() <= found.items()


def test_an_answer_that_may_end_is_told_its_end(opened: Open, folder: Path, tmp_path: Path) -> None:
    """Without a tokenizer the model's own tokens end an answer, all of them."""
    (folder / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | {"eos_token_id": [2, 5]})
    )
    found = sampled(opened, tmp_path, output_length="natural")
    assert (found["end_id"], found["stop_token_ids"], "ignore_eos" in found) == (2, [5], False)


def test_a_model_that_names_no_end_can_only_answer_exactly(opened: Open, folder: Path) -> None:
    """An answer that should end by itself and cannot is refused with what to write."""
    description = json.loads((folder / "config.json").read_text()) | {"eos_token_id": None}
    (folder / "config.json").write_text(json.dumps(description))
    wanted = configuration(Configuration(model_name="model", output_length="natural"))
    with pytest.raises(EngineError, match="set output_length: exact"):
        opened(wanted)


# --- Passes ---


def run(engine: TensorRTEngine, wanted: Configuration, prompts: Sequence[Sequence[int]] = PROMPTS) -> Any:
    beats: list[None] = []
    report = engine.run_pass(prompts, wanted, lambda: beats.append(None))
    assert beats
    return report


def test_a_pass_gives_all_prompts_to_the_engine(opened: Open, tmp_path: Path) -> None:
    """In-flight batching is the engine's own: it has every prompt, as token ids, before the first is done."""
    engine, wanted = opened(max_batch_size=2), configuration(max_batch_size=2)
    report = run(engine, wanted)
    sent = calls(tmp_path, "generate_async")
    assert [call["prompt"] for call in sent] == PROMPTS
    assert [call["streaming"] for call in sent] == [False] * 3
    assert [(r.prompt_tokens, r.output_tokens, r.cached_tokens) for r in report.requests] == [(40, 4, 0)] * 3
    assert report.preemptions is None


def test_without_streaming_the_engine_tells_the_first_token(opened: Open) -> None:
    """Times between submission and completion come from the engine's metrics: when it began, and the first token."""
    for request in run(opened(max_batch_size=2), configuration(max_batch_size=2)).requests:
        assert request.token_s is None
        assert request.submitted_s <= request.started_s <= request.first_token_s <= request.completed_s


def test_a_request_that_waits_has_not_begun(opened: Open) -> None:
    """With room for two, the third request begins when one of them is complete."""
    first, second, third = run(opened(max_batch_size=2), configuration(max_batch_size=2)).requests
    assert third.started_s >= min(first.first_token_s, second.first_token_s)
    assert third.submitted_s == first.submitted_s


def test_with_streaming_every_token_has_its_time(opened: Open) -> None:
    """Each token is timed when it arrives; the last one completes the request."""
    wanted = configuration().model_copy(update={"streaming": True})
    for request in run(opened(wanted), wanted).requests:
        assert len(request.token_s) == request.output_tokens == 4
        assert list(request.token_s) == sorted(request.token_s)
        assert (request.first_token_s, request.completed_s) == (request.token_s[0], request.token_s[-1])


def test_an_answer_of_another_length_is_refused(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exact length that the engine does not keep fails with both numbers."""
    monkeypatch.setenv("TRTLLM_STANDIN_MOOD", "short")
    engine, wanted = opened(), configuration()
    with pytest.raises(EngineError, match="4 output tokens were asked for, the engine made 3"):
        run(engine, wanted)


@pytest.mark.parametrize(
    ("prompt", "parameters", "message"),
    [
        (300, {}, "max_seq_len is 256"),
        (61, {"max_seq_len": 64}, "max_seq_len is 64"),
        (33, {"max_input_len": 32}, "max_input_len is 32"),
        (300, {"backend": "pytorch"}, "max_seq_len is 256"),
    ],
)
def test_prompts_that_do_not_fit_are_named(
    opened: Open, prompt: int, parameters: dict[str, Any], message: str
) -> None:
    """Before the first request the limit that is in the way is named, by its parameter."""
    engine, wanted = opened(**parameters), configuration(**parameters)
    with pytest.raises(EngineError, match=f"the longest prompt has {prompt} tokens .* {message}"):
        run(engine, wanted, [[3] * prompt])


# --- The prefix cache ---


@pytest.mark.parametrize("backend", ["tensorrt", "pytorch"])
def test_reused_blocks_are_counted_within_a_pass_only(opened: Open, tmp_path: Path, backend: str) -> None:
    """A prompt that comes twice in a pass is cached the second time; the next pass finds nothing of it."""
    engine = opened(backend=backend, enable_block_reuse=True, max_batch_size=1)
    wanted = configuration(backend=backend, enable_block_reuse=True, max_batch_size=1)
    for _ in range(2):
        requests = run(engine, wanted, [PROMPTS[0], PROMPTS[0]]).requests
        assert [request.cached_tokens for request in requests] == [0, 32]
    salts = [call["cache_salt"] for call in calls(tmp_path, "generate_async")]
    assert salts[0] == salts[1] != salts[2] == salts[3]


def test_a_load_finds_nothing_of_the_warm_up(opened: Open) -> None:
    """Blocks are reused within a load, and neither from the pass before it nor from the load before that."""
    wanted = configuration(under_load(), enable_block_reuse=True)
    engine = opened(wanted, enable_block_reuse=True)
    for _ in range(2):
        run(engine, wanted, PROMPTS[:1])
        for _ in range(2):
            assert [served(engine, PROMPTS[0], wanted).cached_tokens for _ in range(2)] == [0, 32]
            engine.cancel()


def test_prefix_reuse_may_be_allowed(opened: Open, tmp_path: Path) -> None:
    """With prefix_reuse: allow a pass finds the blocks of the one before."""
    wanted = configuration(enable_block_reuse=True).model_copy(update={"prefix_reuse": "allow"})
    engine = opened(wanted, enable_block_reuse=True)
    cached = [run(engine, wanted, PROMPTS[:1]).requests[0].cached_tokens for _ in range(2)]
    assert cached == [0, 32]
    assert {call["cache_salt"] for call in calls(tmp_path, "generate_async")} == {None}


# --- Requests one by one ---


def under_load() -> Configuration:
    return configuration(max_batch_size=2).model_copy(
        update={"load": Load(mode="closed", concurrency=2), "max_output_tokens": 50}
    )


def served(engine: TensorRTEngine, prompt: Sequence[int], wanted: Configuration) -> Request:
    """Return what has become of a request that is the only one under way."""
    engine.submit(prompt, 1.5, wanted)
    found: list[Request] = []
    while not found:
        found = engine.step(silence).requests
    (request,) = found
    return request


def test_requests_are_served_one_by_one(opened: Open) -> None:
    """The engine takes requests while it serves others, keeps when they came, and streams them."""
    wanted = under_load()
    engine = opened(wanted, max_batch_size=2)
    assert isinstance(engine, Scheduler)
    request = served(engine, PROMPTS[0], wanted)
    assert (request.submitted_s, request.output_tokens, len(request.token_s or ())) == (1.5, 50, 50)
    assert engine.step(silence).requests == []


def test_cancelled_requests_leave_what_they_made(
    opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Requests that have begun come back as far as they got; those that wait are forgotten; the engine is free then."""
    monkeypatch.setenv("TRTLLM_STANDIN_TOKEN_MS", "20")
    wanted = under_load()
    engine = opened(wanted, max_batch_size=2)
    for prompt in PROMPTS:
        engine.submit(prompt, 0.0, wanted)
    while len(calls(tmp_path, "generate_async") if (tmp_path / "calls").exists() else []) < 3:
        engine.step(silence)
    for _ in range(20):
        engine.step(silence)
    begun = engine.cancel()
    assert len(begun) == 2
    for request in begun:
        assert 0 < request.output_tokens < 50
        assert request.completed_s >= (request.token_s or [0])[-1]
    assert engine.step(silence).requests == []
    engine.drain()


def test_a_request_that_is_refused_is_an_error_of_the_campaign(opened: Open, folder: Path) -> None:
    """What the LLM API refuses of a request fails the experiment in its words."""
    (folder / "tokenizer.json").touch()
    wanted = configuration()
    engine = opened(wanted)
    engine._llm.tokenizer = None
    with pytest.raises(EngineError, match="refuses a request: tokenizer is required"):
        run(engine, wanted)
