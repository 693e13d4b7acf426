"""The table at the end of a session."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from factories import measurement, result
from pytest_llem.analysis.observations import Expected, Observation
from pytest_llem.analysis.summary import Summary, summarise
from pytest_llem.campaign.schema import Confidence
from pytest_llem.records import Result, Source
from pytest_llem.reporting.table import table

SMALL, LARGE = "pytorch batch_size=1 fp_precision=float16", "pytorch batch_size=8 fp_precision=float16"
SPREAD = (0.98, 1.0, 1.03, 1.01, 0.99)


def cycles(label: str, *, scale: float = 1.0, count: int = 3, **changes: Any) -> list[Result]:
    """Return one completed result a cycle, with every number around `scale` times the factory's."""
    numbers = {
        "energy_per_output_token_j": 0.412,
        "output_tokens_per_second": 426.3,
        "e2e_latency_ms_mean": 812.5,
    }
    return [
        result(
            label,
            cycle,
            measurement=measurement(
                {name: value * scale * SPREAD[cycle - 1] for name, value in numbers.items()}, **changes
            ),
        )
        for cycle in range(1, count + 1)
    ]


def summary_of(results: Iterable[Result], labels: Sequence[str] = (SMALL, LARGE), **options: Any) -> Summary:
    expected = [
        Expected(f"hash of {label}", label, {"backend": "pytorch", "batch_size": place}, options.pop("of", 3))
        for place, label in enumerate(labels)
    ]
    return summarise(map(Observation.of, results), expected, confidence=Confidence(), **options)


def both(source: Source = "nvml_counter") -> Summary:
    return summary_of([*cycles(SMALL, energy_source=source), *cycles(LARGE, scale=0.5, energy_source=source)])


def row_of(text: str, label: str) -> str:
    """Return the line of a table in which a row begins."""
    return next(line for line in text.splitlines() if line.startswith(label))


def test_a_wide_table_has_a_line_a_configuration() -> None:
    """Where there is room, label, n of N and each mean with its interval stand in one line."""
    row = row_of(table(both(), width=200), SMALL)
    assert "3 of 3" in row
    assert "0.413 [0.388, 0.440]" in row
    assert "428 [" in row
    assert "815 [" in row


def test_the_table_names_method_n_level_and_units() -> None:
    """A reader learns what the brackets are, from how many cycles, and the unit of each column."""
    text = table(both(), width=200)
    assert "[95 % interval: Student t on logs, n = 3]" in text
    assert "J/output token" in text
    assert "output token/s" in text
    assert "ms, mean" in text


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """From 80 columns on the table and its notes fit, with no number cut."""
    long = "vllm model=organisation/a-model-with-a-long-name-7B-Instruct max_num_seqs=64"
    text = table(summary_of([*cycles(SMALL), *cycles(long)], [SMALL, long]), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("[0.388, 0.440]") == 2
    assert "…" not in text


def test_a_long_axis_is_folded_behind_its_name() -> None:
    """On a narrow terminal `axis=value` breaks after the sign of equality, not within a word."""
    labels = ["vllm batch_size=1 fp_precision=bfloat16", "pytorch batch_size=1 fp_precision=float32"]
    text = table(summary_of([*cycles(labels[0]), *cycles(labels[1])], labels), width=80)
    first_words = [line.split()[0] for line in text.splitlines() if line]
    assert [word for word in first_words if "precision" in word or "float" in word] == [
        "fp_precision=",
        "bfloat16",
        "fp_precision=",
        "float32",
    ]


def test_a_terminal_that_is_too_narrow_costs_no_digit() -> None:
    """Below the least width the table overflows rather than cut its numbers."""
    large = summary_of(cycles(SMALL, scale=10_000), [SMALL])
    wide, narrow = table(large, width=200), table(large, width=30)
    numbers = re.findall(r"[(\[][0-9., ]+[)\]]", wide)
    assert len(numbers) == 4
    assert all(number in narrow for number in numbers)


def test_the_bootstrap_interval_of_the_primary_metric_has_its_coverage() -> None:
    """At n = 3 the energy also has a percentile bootstrap interval, with what it really covers."""
    text = " ".join(table(both(), width=200).split())
    assert (
        "(bootstrap): second interval of the energy, percentile bootstrap on logs, n = 3 (covers 75 %)"
        in text
    )
    assert "(0.404, 0.424)" in text


def test_without_measured_energy_the_throughput_is_primary() -> None:
    """A modelled energy is not what the second interval is spent on."""
    assert "second interval of the throughput" in table(both("model"), width=200)


def test_a_modelled_energy_heads_its_column_and_marks_its_values() -> None:
    """A modelled energy is called so in the header, and each value carries `~`."""
    text = table(both("model"), width=200)
    assert "~modelled energy" in text
    assert "~0.413 [0.388, 0.440]" in row_of(text, SMALL)
    assert "~" not in table(both(), width=200)


def test_an_absent_value_is_not_zero() -> None:
    """A metric without a value shows n/a, explained once; a configuration that never ran shows dashes."""
    results = cycles(SMALL, energy_source="unavailable")
    text = table(summary_of(results), width=200)
    assert "n/a" in row_of(text, SMALL)
    assert text.count("energy n/a: ") == 1
    never = row_of(text, LARGE)
    assert "0 of 3" in never
    assert "n/a" not in never
    assert never.split()[-3:] == ["-", "-", "-"]


def test_a_note_names_every_source() -> None:
    """Below the table each column has its source, energy with the parts of the machine that it is the sum of."""
    text = table(both(), width=200)
    assert "sources: energy nvml_counter (gpu); throughput, e2e latency clock" in text.splitlines()


def test_rows_of_different_sources_are_told_apart() -> None:
    """Where rows have different sources or parts, each set of them stands once, with its rows."""
    lines = table(
        summary_of(
            [*cycles(SMALL, parts=("gpu", "cpu")), *cycles(LARGE, energy_source="rapl", parts=("cpu",))]
        ),
        width=200,
    ).splitlines()
    assert f"sources: energy nvml_counter (gpu + cpu); throughput, e2e latency clock ({SMALL})" in lines
    assert f"sources: energy rapl (cpu); throughput, e2e latency clock ({LARGE})" in lines


def test_mixed_sources_are_explained() -> None:
    """Energies from two kinds of instrument have no mean, and the table says why."""
    mixed = [*cycles(SMALL, count=2), *cycles(SMALL, energy_source="rapl")[2:]]
    text = table(summary_of(mixed, [SMALL]), width=200)
    assert "energy n/a: values from nvml_counter and rapl" in text


def test_a_failed_cycle_shows_in_n_of_n() -> None:
    """A row says how many of its cycles were completed."""
    results = [*cycles(SMALL, count=2), result(SMALL, 3, failed="oom")]
    assert "2 of 3" in table(summary_of(results), width=80)


def test_two_cycles_have_no_interval() -> None:
    """Below three cycles there are means only, and the heading says so."""
    text = table(summary_of(cycles(SMALL, count=2), [SMALL]), width=200)
    assert "[" not in text
    assert "without intervals" in text
    assert "0.408" in text


def test_times_to_first_token_have_a_column_when_they_are_known() -> None:
    """TTFT is a column only in campaigns that have it."""
    timed = [result(SMALL, c, measurement=measurement({"ttft_ms_mean": 35.0 * c})) for c in (1, 2, 3)]
    assert "TTFT" in table(summary_of(timed, [SMALL]), width=200)
    assert "TTFT" not in table(both(), width=200)


def test_groups_replace_configurations() -> None:
    """With `group_by` the table shows one row a group."""
    text = table(
        summary_of([*cycles(SMALL), *cycles(LARGE)], group_by=["backend"]),
        width=200,
    )
    assert "backend=pytorch" in text
    assert SMALL not in text


@pytest.mark.parametrize(("colour", "escapes"), [(True, True), (False, False)])
def test_colour_comes_only_when_it_is_asked_for(
    colour: bool, escapes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Escape codes are in the text exactly if the caller wants them, whatever the environment says."""
    set_to: Mapping[str, str] = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    results = [*cycles(SMALL), result(LARGE, failed="timeout")]
    assert ("\x1b[" in table(summary_of(results), width=100, colour=colour)) is escapes


def test_brackets_in_a_label_are_kept() -> None:
    """A label is shown as it is, even where rich would read it as markup."""
    label = "pytorch model=[bold]tiny[/bold]"
    assert label in table(summary_of(cycles(label), [label]), width=200)
