"""One `generate()` call: its settings, its batch, and what is known of it afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteria

from pytest_llem.backends.base import EngineError, Request
from pytest_llem.backends.pytorch.spec import PyTorchParameters
from pytest_llem.backends.sampling import resolve
from pytest_llem.records import Configuration


class SpecialTokens(NamedTuple):
    """A model's special ids: those that end a sequence, the one that fills a batch up, and all together."""

    end: tuple[int, ...]
    pad: int
    every: frozenset[int]


def special_tokens(model: PreTrainedModel) -> SpecialTokens:
    """Return the special ids that a model's configuration files name."""
    sources = (model.generation_config, model.config.get_text_config(decoder=True))
    end = _ids(sources, "eos_token_id")
    pad = _ids(sources, "pad_token_id") or end or (0,)
    every = {*end, *_ids(sources, "pad_token_id"), *_ids(sources, "bos_token_id")}
    return SpecialTokens(end, pad[0], frozenset(every))


def _ids(sources: Sequence[Any], name: str) -> tuple[int, ...]:
    """Return an id, or the ids, from the first of the sources that has any."""
    found = next((ids for source in sources if (ids := getattr(source, name, None)) is not None), ())
    return tuple(found) if isinstance(found, list | tuple) else (found,)


def settings(
    configuration: Configuration,
    parameters: PyTorchParameters,
    tokens: SpecialTokens,
    device: torch.device,
) -> GenerationConfig:
    """Return all that `generate()` is told.

    For an exact length no token ends a sequence, the `ignore_eos` of other engines; that costs no work at any
    step. `generate()` compiles nothing itself: a static cache would make it do so on GPUs unasked.

    Raises:
        EngineError: when sequences may end by themselves and the model has no token for that, and for a cache
            that this device cannot have.
    """
    natural = configuration.output_length == "natural"
    if natural and not tokens.end:
        raise EngineError("output_length: natural needs a model with an end-of-sequence token")
    sampling = resolve(configuration.decoder)
    only_sampled = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": parameters.min_p or None,
    }
    return GenerationConfig(
        max_new_tokens=configuration.max_output_tokens,
        eos_token_id=list(tokens.end) if natural else None,
        pad_token_id=tokens.pad,
        do_sample=sampling.do_sample,
        repetition_penalty=sampling.repetition_penalty,
        no_repeat_ngram_size=parameters.no_repeat_ngram_size,
        num_beams=parameters.num_beams,
        disable_compile=True,
        return_dict_in_generate=True,
        **(only_sampled if sampling.do_sample else {}),
        **_cache_settings(configuration, parameters, device),
    )


def _cache_settings(
    configuration: Configuration, parameters: PyTorchParameters, device: torch.device
) -> dict[str, Any]:
    kind = parameters.cache_implementation
    if not parameters.use_cache or kind is None:
        return {"use_cache": parameters.use_cache}
    if kind.startswith("offloaded") and device.type != "cuda":
        raise EngineError(
            f"cache_implementation: {kind} keeps the cache outside the GPU, the model is on {device.type}"
        )
    if "static" not in kind:
        return {"use_cache": True, "cache_implementation": kind}
    longest = configuration.max_input_tokens + configuration.max_output_tokens
    return {"use_cache": True, "cache_implementation": kind, "max_cache_len": longest}


def batches(prompts: Sequence[Sequence[int]], parameters: PyTorchParameters) -> Iterator[list[int]]:
    """Yield the positions of each batch's prompts: in their order, or shortest first for `sorted_static`."""
    order = list(range(len(prompts)))
    if parameters.batching_strategy == "sorted_static":
        order.sort(key=lambda position: len(prompts[position]))
    for start in range(0, len(order), parameters.batch_size):
        yield order[start : start + parameters.batch_size]


@dataclass(slots=True)
class Batch:
    """A batch that has been served.

    Attributes:
        padding_tokens: computed, but neither prompt nor output: left of short prompts, right of early ends.
        cache: the kind that the model really used, in the words of `cache_implementation`.
    """

    requests: list[Request]
    padding_tokens: int
    cache: str | None


def serve(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    wanted: GenerationConfig,
    beat: Callable[[], None],
    *,
    streaming: bool = False,
) -> Batch:
    """Generate for one batch and say when.

    Static batching has no queue inside the engine, so a request is submitted when its own batch begins. It is
    complete when the whole batch is, for only then does `generate()` return; with `streaming` when its own last
    token is there, which costs a wait for the device at each step.
    """
    submitted_s = time.monotonic()
    ids, mask = _left_padded(prompts, wanted.pad_token_id, model.device)
    progress = _Progress(model.device, beat, every_token=streaming)
    output = model.generate(ids, attention_mask=mask, generation_config=wanted, stopping_criteria=[progress])
    synchronize(model.device)
    completed_s = time.monotonic()
    new_tokens = output.sequences[:, ids.shape[1] :]
    lengths = _output_lengths(new_tokens, wanted)
    requests = [
        Request(
            submitted_s=submitted_s,
            first_token_s=progress.token_s[0],
            completed_s=progress.token_s[length - 1] if streaming else completed_s,
            prompt_tokens=len(prompt),
            output_tokens=length,
            token_s=progress.token_s[:length] if streaming else None,
        )
        for prompt, length in zip(prompts, lengths, strict=True)
    ]
    computed = ids.numel() + new_tokens.numel()
    real = sum(request.prompt_tokens + request.output_tokens for request in requests)
    return Batch(requests, padding_tokens=computed - real, cache=_cache_kind(output.past_key_values))


def synchronize(device: torch.device) -> None:
    """Return when the device has finished all that this process gave it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Progress(StoppingCriteria):  # type: ignore[misc] # its base is untyped
    """Looks on at each step of a `generate()` call and never stops it.

    Attributes:
        token_s: when the first token of the batch was there, with `every_token` each of them.
    """

    def __init__(self, device: torch.device, beat: Callable[[], None], *, every_token: bool) -> None:
        self.token_s: list[float] = []
        self._device = device
        self._beat = beat
        self._every_token = every_token
        self._go_on: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
        if self._every_token or not self.token_s:
            synchronize(self._device)
            self.token_s.append(time.monotonic())
        if self._go_on is None:
            self._go_on = torch.zeros(input_ids.shape[0], dtype=torch.bool, device=self._device)
        self._beat()
        return self._go_on


def _left_padded(
    prompts: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask, with every prompt at the right edge, where generation goes on."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _output_lengths(new_tokens: torch.Tensor, wanted: GenerationConfig) -> list[int]:
    """Return how many tokens each sequence has: its end-of-sequence token is one, what fills it up is not."""
    rows, width = new_tokens.shape
    if wanted.eos_token_id is None:
        if width != wanted.max_new_tokens:
            raise EngineError(f"{wanted.max_new_tokens} output tokens were asked for, the model made {width}")
        return [width] * rows
    ends = torch.isin(new_tokens, torch.tensor(wanted.eos_token_id, device=new_tokens.device))
    lengths: list[int] = torch.where(ends.any(dim=1), ends.int().argmax(dim=1) + 1, width).tolist()
    return lengths


def _cache_kind(cache: Any) -> str | None:
    """Return a cache's name in the words of `cache_implementation`."""
    if cache is None:
        return None
    kind = type(cache).__name__.removesuffix("Cache").lower()
    if not getattr(cache, "offloading", False):
        return kind
    return "offloaded" if kind == "dynamic" else f"offloaded_{kind}"
