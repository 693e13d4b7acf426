"""Experiment keys by dotted path, for backends of a test's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from pytest_llem.backends.base import BackendSpec, Parameters
from pytest_llem.campaign.entries import cut, nest, overlay
from pytest_llem.campaign.keys import InvalidValueError, check, experiment_keys, resolve_axis
from pytest_llem.campaign.scalars import resolve


class Beams(BaseModel):
    width: Annotated[int, Field(ge=1)] = 1


class AbacusParameters(Parameters):
    rows: int = 4
    mode: bool | Literal["fast"] = False
    sizes: tuple[int, ...] | None = None
    weights: dict[int, float] | None = None
    even: int = 2
    beams: Beams = Beams()

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"{value} is odd")
        return value


class SlideParameters(Parameters):
    max_digits: int = 3


BACKENDS = {
    "abacus": BackendSpec("abacus", AbacusParameters, "rows", None),
    "slide": BackendSpec("slide", SlideParameters, "max_digits", None),
}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_output_tokens", 64, 64),
        ("max_output_tokens", 1e3, 1000),
        ("max_output_tokens", None, 128),
        ("decoder.temperature", 0, 0.0),
        ("decoder.temperature", None, None),
        ("gpus", [0, "GPU-1"], (0, "GPU-1")),
        ("backend", "slide", "slide"),
        ("abacus.mode", True, True),
        ("abacus.mode", "fast", "fast"),
        ("abacus.sizes", [1.0, 2], (1, 2)),
        ("abacus.weights", {"5": 1}, {5: 1.0}),
        ("abacus.beams.width", 2, 2),
    ],
)
def test_a_value_becomes_its_keys_type(name: str, value: Any, expected: Any) -> None:
    """A value that suits its key comes back as that type; nothing stands for the default."""
    found = check(name, value, BACKENDS)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_output_tokens", True, "max_output_tokens: expected a whole number, found the boolean True"),
        (
            "max_output_tokens",
            "64",
            "max_output_tokens: expected a whole number, found the text '64'; remove the quotes",
        ),
        ("decoder.top_p", 1.5, "decoder.top_p: expected at most 1, found the number 1.5"),
        ("streaming", 1, "streaming: expected true or false, found the number 1"),
        ("dataset.name", 5, 'dataset.name: expected text, found the number 5; quote it: "5"'),
        ("dataset.name", None, "dataset.name: expected text, found nothing"),
        ("gpus", [0, 1.5], 'gpus[1]: expected a whole number or text, found the number 1.5; quote it: "1.5"'),
        (
            "config_name",
            "a/b",
            "config_name: 'a/b' cannot name a file: write some text without slashes and control characters",
        ),
        (
            "model_name",
            "",
            "model_name: '' names no model: write a hub id, a folder, or random: and one of them",
        ),
        (
            "abacus.mode",
            "fats",
            "abacus.mode: expected true or false or 'fast', found the text 'fats'; did you mean 'fast'?",
        ),
        ("abacus.even", 3, "abacus.even: 3 is odd"),
        ("abacus.rows", 2.5, "abacus.rows: expected a whole number, found the number 2.5"),
        ("abacus.row", 2, "abacus.row: unknown key; did you mean 'rows'?"),
        ("rows", 2, "rows: unknown key; did you mean 'abacus.rows'?"),
        ("parameters", {}, "parameters: unknown key"),
        ("xyz", 1, "xyz: unknown key"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(name: str, value: Any, message: str) -> None:
    """The sentence says which key, what is expected and what was found."""
    with pytest.raises(InvalidValueError) as caught:
        check(name, value, BACKENDS)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "abacus", "slide"),
    [
        ("batch_size", "abacus.rows", "slide.max_digits"),
        ("abacus.rows", "abacus.rows", None),
        ("rows", "abacus.rows", None),
        ("beams.width", "abacus.beams.width", None),
        ("decoder.temperature", "decoder.temperature", "decoder.temperature"),
        ("decoder", "decoder", "decoder"),
        ("abacus", "abacus", None),
        ("parameters", None, None),
        ("colour", None, None),
    ],
)
def test_an_axis_means_what_its_backend_makes_of_it(name: str, abacus: str | None, slide: str | None) -> None:
    """Short names become a backend's parameters; a name of another backend means nothing."""
    assert resolve_axis(name, BACKENDS["abacus"]) == abacus
    assert resolve_axis(name, BACKENDS["slide"]) == slide


def test_a_table_knows_what_takes_a_list() -> None:
    """A key that takes a list is told from one whose list is an axis."""
    keys = experiment_keys(BACKENDS).keys
    assert {name for name, key in keys.items() if key.takes_list} == {"gpus", "abacus.sizes"}


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_being_written(number: float) -> None:
    """Any number that Python writes is read as that number."""
    if abs(number) < 10**30 or isinstance(number, float):
        assert resolve(repr(number)) == number


@given(st.text())
def test_any_text_means_something(text: str) -> None:
    """Every unquoted scalar has one meaning; what is not a number, a word or a date is itself."""
    value = resolve(text)
    assert not isinstance(value, str) or value == text


names = st.sampled_from(["a", "b", "s", "s.a", "s.b", "t.a"])
flat_values = st.dictionaries(names, st.integers() | st.none()).filter(
    lambda values: "s" not in values or not any(name.startswith("s.") for name in values)
)


@given(flat_values, flat_values)
def test_what_lies_on_top_counts(base: dict[str, Any], top: dict[str, Any]) -> None:
    """Every value of the upper layer is in the result, and no key is both a section and a value."""
    joined = overlay(base, top)
    assert top.items() <= joined.items()
    assert joined.items() <= {**base, **top}.items()
    assert "s" not in joined or not any(name.startswith("s.") for name in joined)


@given(flat_values, st.sets(names))
def test_what_is_cut_is_gone(values: dict[str, Any], gone: set[str]) -> None:
    """Cutting removes the named keys, whole sections too, and nothing else."""
    kept = {name: value for name, value in values.items() if not gone & {name, name.partition(".")[0]}}
    assert cut(nest(values), gone) == nest(kept)
