"""The `vllm` engine: vLLM's own engine, fed with token ids and stepped. Imported in the engine process only.

The import itself computes nothing, starts no thread and leaves the GPU's driver alone: a forkserver does it once
for all launches.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

from transformers import AutoTokenizer
from vllm import EngineArgs, LLMEngine
from vllm.model_executor.model_loader.weight_utils import initialize_single_dummy_weight
from vllm.usage.usage_lib import UsageContext

from pytest_llem.backends.base import EngineError, PassReport, Request
from pytest_llem.backends.vllm import effective, surroundings, witness
from pytest_llem.backends.vllm.refusals import deaths, refusals
from pytest_llem.backends.vllm.requests import Completed, Ledger, Pending
from pytest_llem.backends.vllm.sampling import numbered, sampling_params, special_tokens
from pytest_llem.backends.vllm.spec import VLLMParameters
from pytest_llem.records import RANDOM_WEIGHTS, Configuration

WEIGHTS_SEED: int = signature(initialize_single_dummy_weight).parameters["seed"].default
"""vLLM's own, of random weights: one for all."""

CLEARED_WITHIN_S = 5.0
"""How long vLLM may take to let go of requests that are over, before its prefix cache can be cleared."""


def load(configuration: Configuration, model_path: str) -> VLLMEngine:
    """Load the model of a configuration.

    Args:
        configuration: the first that the engine will serve.
        model_path: absolute folder or hub id, without the mark for random weights.

    Raises:
        EngineError: when vLLM does not take the model or a parameter.
        MemoryError: when it does not fit.
    """
    surroundings.prepare()
    with refusals(f"vLLM cannot load {configuration.model_name}"):
        engine = LLMEngine.from_engine_args(
            EngineArgs(**arguments(configuration, model_path)), usage_context=UsageContext.LLM_CLASS
        )
    # It would write statistics of each step, for a dashboard that nobody looks at.
    engine.logger_manager = None
    engine.collective_rpc("llem_end_with", args=(os.getpid(),))
    return VLLMEngine(engine, model_path, configuration)


def arguments(configuration: Configuration, model_path: str) -> dict[str, Any]:
    """Return what vLLM is told: the campaign's parameters, and what makes its engine measurable.

    Statistics are on, because they hold the times of a request. What the model's authors recommend for chatting
    (`generation_config`) must not fill in what the campaign leaves open.
    """
    parameters = VLLMParameters.model_validate(configuration.parameters)
    wanted = parameters.model_dump(exclude=set(parameters.per_call), exclude_none=True)
    if has_random_weights(configuration):
        wanted["load_format"] = "dummy"
    return {
        "model": model_path,
        "dtype": configuration.fp_precision,
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "disable_log_stats": False,
        "use_tqdm_on_load": False,
        "worker_extension_cls": witness.CLASS,
        **wanted,
    }


def has_random_weights(configuration: Configuration) -> bool:
    """Return whether the model is an architecture with random weights."""
    return configuration.model_name.startswith(RANDOM_WEIGHTS)


class VLLMEngine:
    """A loaded model, with vLLM's own continuous batching.

    It serves one configuration after another, passes of prompts and requests that arrive one by one.
    """

    def __init__(self, engine: LLMEngine, model_path: str, configuration: Configuration) -> None:
        self._engine = engine
        self._model_path = model_path
        self._random = has_random_weights(configuration)
        self._ledger = Ledger(engine)
        self._workers = effective.of_workers(engine.collective_rpc("llem_facts"))
        model = engine.vllm_config.model_config
        self._end_tokens = special_tokens(model, "eos_token_id")
        self.vocabulary_size: int = model.get_vocab_size()
        self.special_token_ids = special_tokens(model, "eos_token_id", "bos_token_id", "pad_token_id")
        self._arrived = 0
        self._adopt(configuration)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids with the model's own tokenizer and its special tokens."""
        model = self._engine.vllm_config.model_config
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self._model_path, trust_remote_code=model.trust_remote_code, revision=model.revision
            )
        except (OSError, ValueError, ImportError) as error:
            raise EngineError(
                "the model has no tokenizer, so prompts from text cannot be used; use synthetic prompts"
            ) from error
        ids: list[list[int]] = tokenizer(list(texts))["input_ids"]
        return ids

    def effective(self) -> dict[str, Any]:
        """Return what was really applied, as vLLM and its workers have it."""
        return {
            **effective.of_engine(self._engine.vllm_config, self._parameters),
            **self._workers,
            **effective.of_sampling(self._params),
            "weights": "random" if self._random else "trained",
            "weights_seed": WEIGHTS_SEED if self._random else None,
        }

    def asked(self, configuration: Configuration) -> dict[str, Any]:
        """Return what a configuration demands, in the names of `effective`."""
        return effective.asked(configuration)

    def run_pass(
        self, prompts: Sequence[Sequence[int]], configuration: Configuration, beat: Callable[[], None]
    ) -> PassReport:
        """Serve every prompt once, all there at once; `beat` is called at each step of the engine.

        Raises:
            EngineError: when a prompt does not fit, or the prefix cache cannot be cleared.
        """
        if configuration != self._configuration:
            self._adopt(configuration)
        self._check_lengths(prompts)
        self._forget_prefixes()
        for position, prompt in enumerate(prompts):
            self._submit(prompt, position, time.monotonic())
        served: list[Completed] = []
        with deaths():
            while self._ledger:
                served += self._ledger.step()
                beat()
        return self._report(sorted(served))

    def submit(self, prompt: Sequence[int], submitted_s: float, configuration: Configuration) -> None:
        """Take one request of a load; with the first one the prefix cache is cleared.

        Raises:
            EngineError: as `run_pass`.
        """
        if configuration != self._configuration:
            self._adopt(configuration)
        if self._arrived == 0:
            self._forget_prefixes()
        self._check_lengths([prompt])
        self._submit(prompt, self._arrived, submitted_s)
        self._arrived += 1

    def step(self, beat: Callable[[], None]) -> PassReport:
        """Let vLLM's scheduler go on for one step."""
        with deaths():
            served = self._ledger.step()
        beat()
        return self._report(served)

    def cancel(self) -> list[Request]:
        """End the load: forget its requests, and return those that had begun."""
        self._arrived = 0
        return self._ledger.cancel()

    def batch_limit(self, configuration: Configuration) -> int | None:  # noqa: ARG002 - it was set at the load
        """Return how many requests vLLM runs at once at most."""
        limit: int = self._engine.vllm_config.scheduler_config.max_num_seqs
        return limit

    def drain(self) -> None:
        """Return when no request is left and the workers' devices have finished what they were given."""
        while self._ledger:
            self._ledger.step()
        self._engine.collective_rpc("llem_settle")

    def memory_peak_bytes(self) -> int | None:
        """Return the most memory that tensors held, added up over all GPUs; None on a CPU."""
        peaks = self._engine.collective_rpc("llem_peak_bytes")
        return None if None in peaks else sum(peaks)

    def _adopt(self, configuration: Configuration) -> None:
        """Take up a configuration, which only differs in what each request carries."""
        self._configuration = configuration
        self._parameters = VLLMParameters.model_validate(configuration.parameters)
        with refusals("vLLM does not take the decoder's values"):
            self._params = sampling_params(configuration, self._end_tokens)
        self._engine.collective_rpc("llem_forget_peak")

    def _submit(self, prompt: Sequence[int], position: int, submitted_s: float) -> None:
        streaming = self._configuration.streaming
        params = numbered(self._params, position)
        with refusals("vLLM does not take the request"):
            self._ledger.submit(list(prompt), params, Pending(position, submitted_s, streaming))

    def _forget_prefixes(self) -> None:
        """Clear the prefix cache, so that no prompt is served from an earlier pass.

        vLLM refuses while a request holds a block, as one may for a step after it was cancelled.

        Raises:
            EngineError: vLLM goes on refusing.
        """
        cached = self._engine.vllm_config.cache_config.enable_prefix_caching
        if not cached or self._configuration.prefix_reuse == "allow":
            return
        deadline_s = time.monotonic() + CLEARED_WITHIN_S
        while not self._engine.reset_prefix_cache():
            if time.monotonic() > deadline_s:
                raise EngineError("vLLM did not clear its prefix cache: set enable_prefix_caching: false")
            time.sleep(0.01)

    def _report(self, served: Sequence[Completed]) -> PassReport:
        """Return what was served, with each exact length as it was asked for."""
        wanted = self._configuration
        made = {done.request.output_tokens for done in served}
        if wanted.output_length == "exact" and made - {wanted.max_output_tokens}:
            raise EngineError(
                f"{wanted.max_output_tokens} output tokens were asked for, the model made {min(made)}"
            )
        return PassReport(
            [done.request for done in served], preemptions=sum(done.preemptions for done in served)
        )

    def _check_lengths(self, prompts: Sequence[Sequence[int]]) -> None:
        limit = self._engine.vllm_config.model_config.max_model_len
        wanted = self._configuration.max_output_tokens
        longest = max(map(len, prompts)) + wanted
        if longest > limit:
            raise EngineError(
                f"the longest prompt and {wanted} output tokens make {longest} tokens, max_model_len is {limit}:"
                " raise it if the model allows, or lower max_input_tokens or max_output_tokens"
            )
