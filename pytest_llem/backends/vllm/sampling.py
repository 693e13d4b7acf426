"""From a configuration to what each request tells vLLM: length, end tokens, and how tokens are chosen."""

from __future__ import annotations

from copy import copy
from typing import Any

from vllm import SamplingParams
from vllm.config import ModelConfig
from vllm.sampling_params import RequestOutputKind

from pytest_llem.backends.base import EngineError
from pytest_llem.backends.sampling import resolve
from pytest_llem.backends.vllm.spec import VLLMParameters
from pytest_llem.records import Configuration


def special_tokens(model: ModelConfig, *names: str) -> frozenset[int]:
    """Return a model's special ids of these names, such as `eos_token_id`: each from the first file that has it."""
    sources = (model.try_get_generation_config(), model.hf_text_config.to_dict())
    found = (next((ids for source in sources if (ids := source.get(name)) is not None), ()) for name in names)
    return frozenset(token for ids in found for token in (ids if isinstance(ids, list | tuple) else [ids]))


def sampling_params(configuration: Configuration, end_tokens: frozenset[int]) -> SamplingParams:
    """Return what the first request of a pass is served with; `numbered` makes that of the others.

    For an exact length no token ends a sequence. Tokens go out as they came in, as ids: no engine here spends time
    on text.

    Raises:
        EngineError: when sequences may end by themselves and the model has no token for that.
    """
    natural = configuration.output_length == "natural"
    if natural and not end_tokens:
        raise EngineError("output_length: natural needs a model with an end-of-sequence token")
    return SamplingParams(
        max_tokens=configuration.max_output_tokens,
        ignore_eos=not natural,
        stop_token_ids=sorted(end_tokens) if natural else None,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA if configuration.streaming else RequestOutputKind.FINAL_ONLY,
        **_choice_of_tokens(configuration),
    )


def numbered(params: SamplingParams, number: int) -> SamplingParams:
    """Return what request `number` of a pass is served with.

    One that samples has a seed of its own, so that it answers as in the pass before, whatever runs beside it.
    """
    if params.seed is None:
        return params
    own = copy(params)
    own.seed = params.seed + number
    return own


def _choice_of_tokens(configuration: Configuration) -> dict[str, Any]:
    parameters = VLLMParameters.model_validate(configuration.parameters)
    sampling = resolve(configuration.decoder)
    common = {
        "repetition_penalty": sampling.repetition_penalty,
        "logprobs": parameters.logprobs,
        "logit_bias": parameters.logit_bias,
    }
    if not sampling.do_sample:
        return {"temperature": 0.0, **common}
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": parameters.min_p,
        "seed": configuration.random_seed,
        **common,
    }
