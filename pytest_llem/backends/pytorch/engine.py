"""The `pytorch` engine: transformers' `generate()` in static batches. Imported in the engine process only.

The import itself computes nothing, starts no thread and leaves the GPU's driver alone: a forkserver does it
once for all launches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from torch._dynamo.exc import FailOnRecompileLimitHit
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel

from pytest_llem.backends.base import EngineError, PassReport, Request
from pytest_llem.backends.pytorch import compilation, effective, generation, loading, memory
from pytest_llem.backends.pytorch.spec import PyTorchParameters
from pytest_llem.records import Configuration


def load(configuration: Configuration, model_path: str) -> TransformersEngine:
    """Load the model of a configuration.

    Args:
        configuration: the first that the engine will serve.
        model_path: absolute folder or hub id, without the mark for random weights.

    Raises:
        EngineError: when the model cannot be loaded as asked.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    parameters = PyTorchParameters.model_validate(configuration.parameters)
    if parameters.num_threads is not None:
        torch.set_num_threads(parameters.num_threads)
    model = loading.load_model(configuration, parameters, model_path)
    compilation.compile_forward(model, parameters)
    return TransformersEngine(model, model_path, configuration)


class TransformersEngine:
    """A loaded model. It serves one configuration after another; each begins as if it were the first.

    Args:
        model: on its device, its forward compiled if that was asked.
        model_path: where its tokenizer lies.
        configuration: the one that it was loaded for.
    """

    def __init__(self, model: PreTrainedModel, model_path: str, configuration: Configuration) -> None:
        self._model = model
        self._model_path = model_path
        self._weights = "random" if loading.has_random_weights(configuration) else "trained"
        self._tokens = generation.special_tokens(model)
        # What the authors recommend for chatting must not fill in what the campaign leaves open.
        model.generation_config = GenerationConfig()
        text = model.config.get_text_config(decoder=True)
        self._positions: int | None = getattr(text, "max_position_embeddings", None)
        self.vocabulary_size: int = text.vocab_size
        self.special_token_ids = self._tokens.every
        self._adopt(configuration)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids with the model's own tokenizer and its special tokens."""
        trust = self._parameters.trust_remote_code
        revision = loading.revision(self._parameters)
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._model_path, trust_remote_code=trust, **revision)
        except (OSError, ValueError, ImportError) as error:
            raise EngineError(
                "the model has no tokenizer, so prompts from text cannot be used; use synthetic prompts"
            ) from error
        ids: list[list[int]] = tokenizer(list(texts))["input_ids"]
        return ids

    def asked(self, configuration: Configuration) -> dict[str, Any]:
        """Return what a configuration demands, in the names of `effective`."""
        return effective.asked(configuration)

    def effective(self) -> dict[str, Any]:
        """Return what was really applied; what only a pass can tell is there after the first one."""
        return {
            **effective.of_model(self._model),
            **effective.of_generation(self._settings),
            "batch_size": self._parameters.batch_size,
            "batching_strategy": self._parameters.batching_strategy,
            "weights": self._weights,
            "weights_seed": loading.WEIGHTS_SEED if self._weights == "random" else None,
            **(self._seen_in_pass() if self._has_served else {}),
        }

    def run_pass(
        self, prompts: Sequence[Sequence[int]], configuration: Configuration, beat: Callable[[], None]
    ) -> PassReport:
        """Serve every prompt once, in batches; `beat` is called at each step of the generation.

        Raises:
            EngineError: when the prompts do not fit the model.
        """
        if configuration != self._configuration:
            self._adopt(configuration)
        self._check_lengths(prompts)
        torch.manual_seed(configuration.random_seed)
        requests: dict[int, Request] = {}
        padding_tokens = 0
        for positions in generation.batches(prompts, self._parameters):
            batch = self._serve([prompts[position] for position in positions], beat)
            requests.update(zip(positions, batch.requests, strict=True))
            padding_tokens += batch.padding_tokens
        self._has_served = True
        return PassReport([requests[position] for position in range(len(prompts))], padding_tokens)

    def batch_limit(self, configuration: Configuration) -> int | None:
        """Return the size of a static batch."""
        return PyTorchParameters.model_validate(configuration.parameters).batch_size

    def drain(self) -> None:
        """Return when the device is idle; `generate()` itself leaves no request behind."""
        generation.synchronize(self._model.device)

    def memory_peak_bytes(self) -> int | None:
        """Return the largest memory held since the load, or since the current configuration was taken up."""
        return memory.peak_bytes(self._model.device)

    def _adopt(self, configuration: Configuration) -> None:
        """Take up a configuration, and forget what earlier ones left behind that could change its numbers."""
        self._configuration = configuration
        self._parameters = PyTorchParameters.model_validate(configuration.parameters)
        self._settings = generation.settings(
            configuration, self._parameters, self._tokens, self._model.device
        )
        self._has_served = False
        self._cache: str | None = None
        if compilation.is_compiled(self._model):
            compilation.forget_compiled_code()
        self._graphs_before = compilation.compiled_graphs()
        # generate() makes each static cache as long as the longest before it.
        vars(self._model).pop("_previous_max_cache_length", None)
        memory.forget_peak(self._model.device)

    def _serve(self, prompts: Sequence[Sequence[int]], beat: Callable[[], None]) -> generation.Batch:
        try:
            with torch.inference_mode():
                batch = generation.serve(
                    self._model, prompts, self._settings, beat, streaming=self._configuration.streaming
                )
        except FailOnRecompileLimitHit as error:
            raise EngineError(
                "torch_compile: the shapes vary so much that torch would go on without compiled code:"
                " set cache_implementation: static or prompts of one length"
            ) from error
        except (ImportError, ValueError) as error:
            raise EngineError(f"generate() refuses: {error}") from error
        self._cache = batch.cache
        return batch

    def _seen_in_pass(self) -> dict[str, Any]:
        graphs = compilation.compiled_graphs() - self._graphs_before
        compiled = compilation.is_compiled(self._model) and graphs > 0
        backend = self._parameters.torch_compile_backend or compilation.INDUCTOR
        return {
            "use_cache": self._cache is not None,
            "cache_implementation": self._cache,
            "torch_compile": self._parameters.torch_compile if compiled else False,
            "torch_compile_backend": backend if compiled else None,
            "compiled_graphs": graphs,
        }

    def _check_lengths(self, prompts: Sequence[Sequence[int]]) -> None:
        longest = max(map(len, prompts)) + self._configuration.max_output_tokens
        if self._positions is not None and longest > self._positions:
            raise EngineError(
                f"the longest prompt and {self._configuration.max_output_tokens} output tokens make {longest}"
                f" positions, the model has {self._positions}: lower max_input_tokens or max_output_tokens"
            )
