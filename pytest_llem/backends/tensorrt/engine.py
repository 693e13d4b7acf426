"""The `tensorrt` engine: TensorRT-LLM through its LLM API. Imported in the engine process only.

TensorRT-LLM itself is imported by `llm`, when it is known that there is a GPU to run on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

from pytest_llem.backends.base import Build, EngineError, PassReport, Request
from pytest_llem.backends.tensorrt import building, effective, gpus
from pytest_llem.backends.tensorrt.engine_cache import EngineCache, fingerprint
from pytest_llem.backends.tensorrt.flow import Call, Flow
from pytest_llem.backends.tensorrt.model import Model, read
from pytest_llem.backends.tensorrt.spec import SPEC, TensorRTParameters
from pytest_llem.records import RANDOM_WEIGHTS, Configuration

SHAPING = (
    "max_batch_size",
    "max_input_len",
    "max_seq_len",
    "max_num_tokens",
    "fast_build",
    "strongly_typed",
    "multiple_profiles",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "quant_algo",
    "kv_cache_quant_algo",
)
"""Parameters that are compiled into an engine; the others tell its executor what to do."""

STEP_S = 0.005
"""Under load: how long to look on before the worker sends what has arrived meanwhile."""

BEAT_S = 1.0
"""In a pass: how often to show that work goes on."""

STATS_S = 1.0
"""How long to wait for statistics; the engine has them as soon as it has served."""


def build(configuration: Configuration, model_path: str) -> Build:
    """Compile the engine of a configuration, if there is one to compile and the cache does not have it.

    Raises:
        EngineError: there is no GPU, no TensorRT-LLM, or it cannot be built as asked.
    """
    visible = gpus.names()
    parameters = TensorRTParameters.model_validate(configuration.parameters)
    if parameters.backend == "pytorch" or parameters.engine_path is not None:
        return None
    cache, shape = EngineCache(parameters.engine_cache_dir), _shape(configuration, model_path, visible)
    if cache.holds(shape) and not parameters.force_rebuild:
        return "hit"
    cache.store(shape, lambda folder: building.build(configuration, Path(model_path), folder))
    return "miss"


def load(configuration: Configuration, model_path: str) -> TensorRTEngine:
    """Load the engine that `build` left, the one that the configuration names, or the model itself.

    Args:
        configuration: the first that the engine will serve.
        model_path: absolute folder of the model.

    Raises:
        EngineError: it cannot be loaded as asked.
        MemoryError: the device's memory does not suffice.
    """
    visible = gpus.names()
    model = read(Path(model_path))
    parameters = TensorRTParameters.model_validate(configuration.parameters)
    from pytest_llem.backends.tensorrt import llm  # noqa: PLC0415 - it imports TensorRT-LLM

    if parameters.backend == "pytorch":
        return TensorRTEngine(llm.open_checkpoint(configuration, model), model, configuration, None)
    engine = (
        _named_engine(parameters.engine_path)
        if parameters.engine_path
        else EngineCache(parameters.engine_cache_dir).place(_shape(configuration, model_path, visible))
    )
    return TensorRTEngine(llm.open_engine(parameters, model, engine), model, configuration, engine)


def _shape(configuration: Configuration, model_path: str, visible: Sequence[str]) -> dict[str, Any]:
    """Return all that makes one engine another."""
    parameters = TensorRTParameters.model_validate(configuration.parameters)
    ranks = parameters.tensor_parallel_size * parameters.pipeline_parallel_size
    return {
        "model": configuration.model_name,
        "files": fingerprint(Path(model_path)),
        "weights": "random" if configuration.model_name.startswith(RANDOM_WEIGHTS) else "trained",
        "dtype": configuration.fp_precision,
        "gpus": list(visible[:ranks]),
        "tensorrt_llm": _version(),
        **{name: getattr(parameters, name) for name in SHAPING},
    }


def _version() -> str:
    try:
        return version("tensorrt-llm")
    except PackageNotFoundError as error:
        raise EngineError(f"TensorRT-LLM is not installed beside the worker: {SPEC.install}") from error


def _named_engine(path: str) -> Path:
    folder = Path(path).expanduser()
    missing = [name for name in ("config.json", "rank0.engine") if not (folder / name).is_file()]
    if missing:
        raise EngineError(
            f"engine_path: {folder} holds no TensorRT engine: {' and '.join(missing)} not found"
        )
    return folder


class TensorRTEngine:
    """A loaded LLM. In-flight batching is its own, so it takes whole passes and single requests alike.

    Args:
        llm: what `tensorrt_llm.LLM(...)` returned.
        model: whose tokens it speaks.
        configuration: the one that it was loaded for.
        engine: the folder of the compiled engine that it runs; None: it runs the model itself.
    """

    def __init__(self, llm: Any, model: Model, configuration: Configuration, engine: Path | None) -> None:
        self._llm = llm
        self._model = model
        self._facts = effective.of_llm(llm.args, engine)
        self._flow = Flow(llm, self._cached_tokens)
        self._salts = count()
        self._salt = ""
        self._in_load = False
        self.vocabulary_size = model.vocabulary_size
        self.special_token_ids = model.special_ids
        self._adopt(configuration)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids with the model's own tokenizer and its special tokens."""
        tokenizer = self._llm.tokenizer
        if tokenizer is None:
            raise EngineError(
                "the model has no tokenizer, so prompts from text cannot be used; use synthetic prompts"
            )
        return [list(tokenizer.encode(text)) for text in texts]

    def asked(self, configuration: Configuration) -> dict[str, Any]:
        """Return what a configuration demands, in the names of `effective`."""
        return effective.asked(configuration)

    def effective(self) -> dict[str, Any]:
        """Return what was really applied, read back from TensorRT-LLM's own objects."""
        return self._facts | effective.of_sampling(self._sampling)

    def run_pass(
        self, prompts: Sequence[Sequence[int]], configuration: Configuration, beat: Callable[[], None]
    ) -> PassReport:
        """Give every prompt to the engine at once, which batches them itself.

        Raises:
            EngineError: the prompts do not fit the engine, or an answer is not as long as asked.
        """
        self._adopt(configuration)
        self._forget_prefixes()
        self._check_lengths(max(map(len, prompts)))
        submitted_s = time.monotonic()
        calls = [self._call(prompt, submitted_s, streaming=configuration.streaming) for prompt in prompts]
        for call in calls:
            self._flow.submit(call)
        found: dict[int, Request] = {}
        while len(found) < len(calls):
            found |= {id(call): request for call, request in self._flow.wait(BEAT_S, for_all=True)}
            beat()
        return self._report([found[id(call)] for call in calls])

    def submit(self, prompt: Sequence[int], submitted_s: float, configuration: Configuration) -> None:
        """Take one request of a load, all of which have one salt; the next step gives it to the engine.

        Raises:
            EngineError: the prompt does not fit the engine.
        """
        self._adopt(configuration)
        if not self._in_load:
            self._forget_prefixes()
            self._in_load = True
        self._check_lengths(len(prompt))
        self._flow.submit(self._call(prompt, submitted_s, streaming=True))

    def step(self, beat: Callable[[], None]) -> PassReport:
        """Look on for a moment, and report the requests that are complete now."""
        found = self._flow.wait(STEP_S, for_all=False)
        beat()
        return self._report([request for _, request in found])

    def cancel(self) -> list[Request]:
        """End the load: abort every request, and return those that had begun, as far as they got."""
        self._in_load = False
        return self._flow.abort()

    def batch_limit(self, configuration: Configuration) -> int | None:
        """Return how many requests are in a batch in flight at most."""
        return TensorRTParameters.model_validate(configuration.parameters).max_batch_size

    def drain(self) -> None:
        """Return at once: a pass ends with its last answer, `cancel` when the engine has let go of all requests."""

    def memory_peak_bytes(self) -> int | None:
        """Return the most GPU memory that the executor's statistics speak of; None where they do not."""
        used = [
            entry["gpuMemUsage"] for entry in self._llm.get_stats(timeout=STATS_S) if "gpuMemUsage" in entry
        ]
        return max(used, default=None)

    def _adopt(self, configuration: Configuration) -> None:
        from pytest_llem.backends.tensorrt import llm  # noqa: PLC0415 - it imports TensorRT-LLM

        if getattr(self, "_configuration", None) != configuration:
            self._configuration = configuration
            self._sampling = llm.sampling(configuration, self._model)

    def _forget_prefixes(self) -> None:
        """Let what comes now find nothing of earlier prompts: blocks are reused under one salt only."""
        self._salt = f"llem-{next(self._salts)}"

    def _call(self, prompt: Sequence[int], submitted_s: float, *, streaming: bool) -> Call:
        allowed = self._configuration.prefix_reuse == "allow"
        salt = self._salt if self._facts["enable_block_reuse"] and not allowed else None
        return Call(list(prompt), submitted_s, self._sampling, streaming, salt)

    def _cached_tokens(self, output: Any) -> int:
        """Return how many prompt tokens were not computed. A compiled engine counts reused blocks, not tokens."""
        if not self._facts["enable_block_reuse"]:
            return 0
        if "tokens_per_block" not in self._facts:
            return int(output.cached_tokens)
        metrics = output.outputs[0].request_perf_metrics
        return int(metrics.kv_cache_metrics.num_reused_blocks * self._facts["tokens_per_block"])

    def _report(self, requests: list[Request]) -> PassReport:
        wanted = self._configuration
        made = {request.output_tokens for request in requests} - {wanted.max_output_tokens}
        if made and wanted.output_length == "exact":
            raise EngineError(
                f"{wanted.max_output_tokens} output tokens were asked for, the engine made {min(made)}"
            )
        return PassReport(requests)

    def _check_lengths(self, longest: int) -> None:
        answer = self._configuration.max_output_tokens
        for name, length in (("max_input_len", longest), ("max_seq_len", longest + answer)):
            limit = self._facts.get(name) or (self._model.positions if name == "max_seq_len" else None)
            if limit is not None and length > limit:
                raise EngineError(
                    f"the longest prompt has {longest} tokens and its answer {answer}: {name} is {limit}"
                )
