from __future__ import annotations

import re
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.backends.application import Application, asked_of, demanded, prove, verify
from pytest_llem.backends.base import EngineError
from pytest_llem.records import Configuration, Decoder

NAMES = st.text("abc", min_size=1)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=5)


class Silent:
    """An engine that leaves it to the default what is asked of it."""

    def __init__(self, **applied: Any) -> None:
        self._applied = applied

    def effective(self) -> dict[str, Any]:
        return self._applied


class Outspoken(Silent):
    """An engine that has its own words for what is asked of it."""

    def asked(self, configuration: Any) -> dict[str, Any]:
        return {"dtype": configuration.fp_precision}


class TestVerify:
    @given(st.dictionaries(NAMES, VALUES))
    def test_what_was_applied_as_asked_passes(self, values: dict[str, Any]) -> None:
        """An engine that applied everything as it was asked is never refused, whatever the values."""
        verify(values, values)

    @given(st.dictionaries(NAMES, VALUES), st.dictionaries(NAMES, VALUES))
    def test_only_names_in_both_are_compared(self, asked: dict[str, Any], more: dict[str, Any]) -> None:
        """What the engine says nothing of, or says unasked, is no reason to refuse."""
        verify(asked, {name: value for name, value in more.items() if name not in asked})

    def test_both_values_are_named(self) -> None:
        """Each parameter that was not applied is named with what was asked and what was applied."""
        said = (
            "the engine did not apply dtype (asked 'bfloat16', applied 'float32'),"
            " block_size (asked 32, applied 16)"
        )
        with pytest.raises(EngineError, match=f"^{re.escape(said)}$"):
            verify(
                {"dtype": "bfloat16", "seed": 1, "block_size": 32},
                {"seed": 1, "dtype": "float32", "block_size": 16},
            )

    @given(st.floats(1e-30, 1e30))
    def test_a_number_may_go_through_32_bits(self, number: float) -> None:
        """A number that the engine keeps as a 32-bit float counts as applied."""
        (single,) = struct.unpack("f", struct.pack("f", number))
        verify({"share": number}, {"share": single})

    @pytest.mark.parametrize(
        ("asked", "applied"),
        [(1, 1.0), (2.0, 2), ([1, 2], (1, 2)), ((0.5,), [0.5]), ({"a": 1}, {"a": 1, "more": 2})],
        ids=str,
    )
    def test_the_same_in_another_dress(self, asked: Any, applied: Any) -> None:
        """Whole and other numbers, lists and tuples, and a mapping with more in it count as the same."""
        verify({"it": asked}, {"it": applied})

    @pytest.mark.parametrize(
        ("asked", "applied"),
        [
            (0.9, 0.90001),
            (10_000_000, 10_000_001),
            (0.0, 1e-9),
            (True, 1),
            (0, False),
            ("1", 1),
            (1.0, "1.0"),
            (1, None),
            ([1, 2], [1]),
            ([1, 2], [2, 1]),
            ({"a": 1}, None),
        ],
        ids=str,
    )
    def test_another_value(self, asked: Any, applied: Any) -> None:
        """Values that a reader of the campaign would call different are not taken for the same."""
        with pytest.raises(EngineError, match=re.escape(f"it (asked {asked!r}, applied {applied!r})")):
            verify({"it": asked}, {"it": applied})

    def test_an_entry_of_a_mapping(self) -> None:
        """Of a mapping the entries that differ are named by dotted names, one that is missing too."""
        with pytest.raises(
            EngineError, match=r"apply q\.bits \(asked 3, applied None\), q\.deep\.a \(asked 1"
        ):
            verify({"q": {"bits": 3, "deep": {"a": 1}}}, {"q": {"method": "x", "deep": {"a": 2}}})


class TestAsked:
    def test_the_default_is_what_the_configuration_demands(self) -> None:
        """An engine that says nothing of demands is asked for every value by its own name, and None is none."""
        wanted = Configuration(
            fp_precision="bfloat16",
            max_output_tokens=9,
            decoder=Decoder(temperature=0.5),
            parameters={"batch_size": 4, "revision": None},
        )
        assert asked_of(Silent(), wanted) == demanded(wanted)  # type: ignore[arg-type]
        assert demanded(wanted) == {
            "fp_precision": "bfloat16",
            "output_length": "exact",
            "max_output_tokens": 9,
            "do_sample": True,
            "temperature": 0.5,
            "top_p": 1.0,
            "top_k": 50,
            "repetition_penalty": 1.0,
            "batch_size": 4,
        }

    def test_a_greedy_decoder_demands_no_temperature(self) -> None:
        """What greedy decoding does not look at is not asked for."""
        assert "temperature" not in demanded(Configuration(decoder=Decoder(preset="deterministic")))

    def test_an_engine_may_have_its_own_words(self) -> None:
        """An engine with `asked` is compared in its own names."""
        wanted = Configuration(fp_precision="float32")
        prove(Outspoken(dtype="float32", fp_precision="not asked"), wanted)  # type: ignore[arg-type]
        with pytest.raises(EngineError, match="dtype"):
            prove(Outspoken(dtype="float16"), wanted)  # type: ignore[arg-type]

    def test_what_is_not_confirmed(self) -> None:
        """Names that were asked for and that the engine is silent about are listed, in the order asked."""
        assert Application({"b": 1, "a": 2, "c": 3}, {"a": 2, "more": 1}).unconfirmed == ("b", "c")
