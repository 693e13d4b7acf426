from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.backends.sampling import TOP_K, Sampling, resolve
from pytest_llem.records import Decoder

GREEDY = Sampling(do_sample=False)


def sampled(**settings: Any) -> Sampling:
    """Return what plain sampling is, but for these settings."""
    return Sampling(**({"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": TOP_K} | settings))


@pytest.mark.parametrize(
    ("decoder", "meaning"),
    [
        (Decoder(), GREEDY),
        (Decoder(do_sample=True), sampled()),
        (Decoder(temperature=0.7), sampled(temperature=0.7)),
        (Decoder(top_p=0.9), sampled(top_p=0.9)),
        (Decoder(top_k=0), sampled(top_k=0)),
        (Decoder(temperature=0.0), GREEDY),
        (Decoder(do_sample=True, temperature=0.0), GREEDY),
        (Decoder(do_sample=False, temperature=0.7), GREEDY),
        (Decoder(repetition_penalty=1.3), Sampling(do_sample=False, repetition_penalty=1.3)),
        (Decoder(preset="deterministic"), GREEDY),
        (Decoder(preset="deterministic", temperature=0.7), GREEDY),
        (Decoder(preset="deterministic", do_sample=True), sampled()),
        (Decoder(preset="standard"), sampled(top_p=0.95)),
        (Decoder(preset="creative"), sampled(temperature=0.8, top_p=0.9, repetition_penalty=1.1)),
        (
            Decoder(preset="creative", temperature=0.5),
            sampled(temperature=0.5, top_p=0.9, repetition_penalty=1.1),
        ),
        (Decoder(preset="factual"), sampled(temperature=0.3)),
        (Decoder(preset="factual", do_sample=False), GREEDY),
    ],
    ids=str,
)
def test_meaning(decoder: Decoder, meaning: Sampling) -> None:
    """A decoder section has one meaning: greedy by default, and a preset yields to what is set beside it."""
    assert resolve(decoder) == meaning
