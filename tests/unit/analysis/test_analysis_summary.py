from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llem.analysis.intervals import interval
from pytest_llem.analysis.observations import Expected, Observation
from pytest_llem.analysis.summary import RowSummary, Summary, summarise
from pytest_llem.campaign.schema import Confidence
from pytest_llem.records import METRICS
from unit.analysis.analysis_samples import ENERGY, THROUGHPUT, cycles, expected, observation

FEW = Confidence(resamples=99)
SINGLE = "Single cycle: set execution.cycles to 3 or more for confidence intervals"


def only_row(observations: list[Observation], **rest: Any) -> RowSummary:
    """Return the row of configuration `a`."""
    (row,) = summarise(observations, expected("a"), **{"confidence": FEW} | rest).rows
    return row


def said(observations: list[Observation], *, experiments: int = 3, **rest: Any) -> str:
    """Return the messages of a summary of configurations `a` and `b`, joined."""
    asked = expected("a", "b", experiments=experiments)
    return "\n".join(summarise(observations, asked, confidence=FEW, **rest).messages)


# --- Rows ---


def test_a_row_has_the_geometric_mean_with_its_interval() -> None:
    """A metric on a log scale has its geometric mean, Student's interval, unit, source and spread of logs."""
    found = only_row(cycles([90.0, 100.0, 120.0])).metrics[THROUGHPUT]
    assert found.center == pytest.approx((90 * 100 * 120) ** (1 / 3))
    assert (found.unit, found.source, found.n) == ("token/s", "clock", 3)
    assert found.interval == interval([90.0, 100.0, 120.0], method="student")
    logs = [math.log(value) for value in (90, 100, 120)]
    mean = sum(logs) / 3
    assert found.sd_log == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in logs) / 2))
    assert (found.sd, found.note) == (None, None)


@pytest.mark.parametrize(
    ("n", "headline", "bootstrap"),
    [
        (2, None, None),
        (3, "student", "percentile"),
        (4, "student", "percentile"),
        (5, "student", "bootstrap-t"),
        (8, "bootstrap-t", "bootstrap-t"),
    ],
)
def test_each_metric_has_a_bootstrap_interval_too(
    n: int, headline: str | None, bootstrap: str | None
) -> None:
    """Beside the headline stands the best bootstrap of that n; the percentile one with its true coverage."""
    found = only_row(cycles([100.0 + cycle for cycle in range(n)])).metrics[THROUGHPUT]
    assert (found.interval and found.interval.method) == headline
    assert (found.bootstrap and found.bootstrap.method) == bootstrap
    if found.bootstrap:
        assert (found.bootstrap.coverage is not None) == (bootstrap == "percentile")


def test_every_metric_is_there() -> None:
    """A metric without a value keeps its place and unit: no mean, no zero, source unavailable."""
    row = only_row(cycles([100.0] * 3))
    assert list(row.metrics) == list(METRICS)
    found = row.metrics[ENERGY]
    assert (found.source, found.unit, found.n, found.center, found.interval) == (
        "unavailable",
        "J/token",
        0,
        None,
        None,
    )


def test_rows_come_in_the_order_of_the_campaign() -> None:
    """What was asked for decides rows, order, labels and axes, also for a configuration that never ran."""
    observations = cycles([1.0] * 3, configuration="b")
    rows = summarise(observations, expected("c", "b", model="gpt2"), confidence=FEW).rows
    assert [(row.key, row.n, row.of) for row in rows] == [("c", 0, 3), ("b", 3, 3)]
    assert rows[0].label == "label of c"
    assert rows[0].axes == {"batch_size": "c", "model": "gpt2"}


def test_a_stranger_changes_nothing() -> None:
    """Results that the campaign no longer asks for are in no row, message or diagnostic."""
    wanted = cycles([100.0, 101.0, 102.0])
    strangers = cycles([9.0, 3.0, 1.0], configuration="stranger", session="last year")
    with_strangers = summarise([*wanted, *strangers], expected("a"), confidence=FEW)
    assert with_strangers == summarise(wanted, expected("a"), confidence=FEW)


def test_a_row_says_n_of_n_and_why() -> None:
    """Failed cycles are missing from n and counted by class, flags by experiment, launches once each."""
    observations = [
        observation(100.0, cycle=1, launch="x", flags=("not_converged",)),
        observation(101.0, cycle=2, launch="x", flags=("not_converged", "saturated")),
        observation(None, cycle=3, failure="oom"),
    ]
    row = only_row(observations)
    assert (row.n, row.of, row.launches) == (2, 3, 1)
    assert row.failures == {"oom": 1}
    assert row.flags == {"not_converged": 2, "saturated": 1}
    assert row.sources == ("clock",)


def test_a_retried_experiment_is_no_failure() -> None:
    """A cycle that failed and was completed later counts as completed, once."""
    observations = [*cycles([100.0] * 3, session="tuesday"), observation(None, started_at=1.0, failure="oom")]
    row = only_row(observations)
    assert (row.n, row.failures) == (3, {})


def test_a_refused_measurement_is_in_no_mean() -> None:
    """An experiment that was measured and then refused keeps its values out of the row."""
    observations = [*cycles([100.0, 100.0]), observation(5.0, cycle=3, failure="not_measured")]
    found = only_row(observations).metrics[THROUGHPUT]
    assert found.n == 2
    assert found.center == pytest.approx(100)


def test_modelled_and_measured_are_never_averaged() -> None:
    """A metric whose cycles have different sources has no mean and no interval, and the note names them."""
    sources = ["rapl", "model", "rapl"]
    observations = [
        observation({ENERGY: 0.5}, cycle=cycle, sources={ENERGY: source})  # type: ignore[dict-item]
        for cycle, source in enumerate(sources, 1)
    ]
    found = only_row(observations).metrics[ENERGY]
    assert (found.source, found.n, found.center, found.interval, found.bootstrap) == (
        "mixed",
        3,
        None,
        None,
        None,
    )
    assert found.note == "values from model and rapl: different sources have no common mean"


def test_sums_of_different_parts_are_never_averaged() -> None:
    """A cycle without the CPU's energy beside cycles with it leaves no mean, and the note names both sums."""
    observations = [
        observation({ENERGY: 14.0, THROUGHPUT: 1.0}, cycle=cycle, parts={ENERGY: parts})
        for cycle, parts in enumerate([("gpu", "cpu"), ("gpu",), ("gpu", "cpu")], 1)
    ]
    metrics = only_row(observations).metrics
    assert (metrics[ENERGY].source, metrics[ENERGY].center, metrics[ENERGY].interval) == ("mixed", None, None)
    assert metrics[ENERGY].note == (
        "values of gpu and of gpu + cpu: different parts of the machine have no common mean"
    )
    assert metrics[THROUGHPUT].center == 1


def test_a_mean_says_what_it_is_the_sum_of() -> None:
    """A metric of energy keeps the parts that all of its values have."""
    observations = cycles([{ENERGY: 14.0}] * 3, parts={ENERGY: ("gpu", "cpu")})
    assert only_row(observations).metrics[ENERGY].parts == ("gpu", "cpu")


def test_a_cycle_without_a_value_is_said() -> None:
    """A metric that is null in one of four cycles has n = 3 and a note."""
    found = only_row(cycles([{ENERGY: 0.5}, {ENERGY: 0.6}, {}, {ENERGY: 0.7}])).metrics[ENERGY]
    assert (found.n, found.note) == (3, "no value in 1 of 4 blocks")


def test_zero_has_no_logarithm() -> None:
    """With a value of 0 the mean is arithmetic and the interval linear, and the note says so."""
    found = only_row(cycles([{"model_load_energy_j": value} for value in (0.0, 3.0, 6.0)]))
    loads = found.metrics["model_load_energy_j"]
    assert loads.center == pytest.approx(3)
    assert loads.interval == interval([0.0, 3.0, 6.0], method="student", logarithmic=False)
    assert loads.sd_log is None
    assert loads.sd == pytest.approx(3)
    assert loads.note == "a value of 0 or below: arithmetic mean and linear interval"


# --- Groups ---


def test_a_group_averages_its_configurations_within_each_block() -> None:
    """Two configurations 10 times apart pool into three block means: n is the cycles, not the experiments."""
    fast, slow = (900.0, 1000.0, 1100.0), (90.0, 100.0, 110.0)
    observations = [*cycles(fast, configuration="a"), *cycles(slow, configuration="b")]
    summary = summarise(observations, expected("a", "b", model="gpt2"), confidence=FEW, group_by=("model",))
    (group,) = summary.groups
    assert (group.key, group.label, group.axes) == ("model=gpt2", "model=gpt2", {"model": "gpt2"})
    assert (group.n, group.of, group.launches) == (3, 3, 6)
    blocks = [math.sqrt(a * b) for a, b in zip(fast, slow, strict=True)]
    found = group.metrics[THROUGHPUT]
    reference = interval(blocks)
    assert reference is not None
    assert found.interval is not None
    assert found.n == 3
    assert (found.interval.low, found.interval.high) == pytest.approx((reference.low, reference.high))
    assert len(summary.rows) == 2


def test_a_cycle_in_two_sessions_is_two_blocks() -> None:
    """Of a group, a cycle that two sessions shared is complete in neither and left out of the mean."""
    observations = [
        *cycles([100.0] * 3, configuration="a"),
        *cycles([100.0] * 2, configuration="b"),
        observation(400.0, configuration="b", cycle=3, session="tuesday", started_at=9e4),
    ]
    asked = expected("a", "b", model="gpt2")
    (group,) = summarise(observations, asked, confidence=FEW, group_by=("model",)).groups
    assert (group.n, group.of) == (2, 3)
    assert group.metrics[THROUGHPUT].center == pytest.approx(100)
    assert group.note == "2 of 4 blocks left out: not all 2 configurations of the group completed them"


def test_groups_are_the_combinations_of_their_axes() -> None:
    """`group_by` with two paths makes one row for each pair of values that occurs, in order."""
    asked = [
        Expected(name, name, {"backend": "vllm", "decoder.temperature": temperature}, 3)
        for name, temperature in (("a", 0.7), ("b", 0), ("c", 0.7))
    ]
    paths = ("backend", "decoder.temperature")
    groups = summarise([], asked, confidence=FEW, group_by=paths).groups
    assert [group.label for group in groups] == [
        "backend=vllm, decoder.temperature=0.7",
        "backend=vllm, decoder.temperature=0",
    ]


def test_a_group_of_measured_and_modelled_has_no_mean() -> None:
    """Averaging a measured configuration with a modelled one is mixing sources too."""
    observations = [
        *cycles([{ENERGY: 0.5}] * 3, configuration="a", sources={ENERGY: "rapl"}),
        *cycles([{ENERGY: 0.5}] * 3, configuration="b", sources={ENERGY: "model"}),
    ]
    asked = expected("a", "b", model="gpt2")
    (group,) = summarise(observations, asked, confidence=FEW, group_by=("model",)).groups
    assert (group.metrics[ENERGY].source, group.metrics[ENERGY].center) == ("mixed", None)


values = st.lists(st.floats(1, 1000), min_size=3, max_size=3)


@settings(max_examples=25, deadline=None)
@given(st.lists(values, min_size=1, max_size=4))
def test_the_mean_of_a_complete_group_is_the_mean_of_its_rows(table: list[list[float]]) -> None:
    """Where every configuration completed every block, the group's center is their geometric mean."""
    names = "abcd"[: len(table)]
    observations = [
        one for name, row in zip(names, table, strict=True) for one in cycles(row, configuration=name)
    ]
    summary = summarise(observations, expected(*names, model="m"), confidence=FEW, group_by=("model",))
    logs = [math.log(row.metrics[THROUGHPUT].center or math.nan) for row in summary.rows]
    assert summary.groups[0].metrics[THROUGHPUT].center == pytest.approx(math.exp(sum(logs) / len(logs)))


@settings(max_examples=25, deadline=None)
@given(values, st.permutations(range(3)))
def test_observations_may_come_in_any_order(row: list[float], order: list[int]) -> None:
    """The summary depends on what was observed, not on the order in which it is handed over."""
    observations = cycles(row)
    shuffled = [observations[place] for place in order]
    first, second = (summarise(one, expected("a"), confidence=FEW) for one in (observations, shuffled))
    assert first == second


# --- What is said beside the table ---


def test_a_single_cycle_says_what_to_do() -> None:
    """One cycle has means alone, and the message names the key to set."""
    summary = summarise(cycles([100.0]), expected("a", experiments=1), confidence=FEW)
    assert summary.messages == (SINGLE,)
    assert summary.method == "means without intervals, n < 3"
    assert summary.rows[0].metrics[THROUGHPUT].interval is None


def test_two_cycles_have_a_message_of_their_own() -> None:
    """Two cycles are told that their range is no interval."""
    message = said([*cycles([100.0] * 2), *cycles([100.0] * 2, configuration="b")], experiments=2)
    assert message == "Two cycles: means only, their range is no interval; set execution.cycles to 3 or more"


def test_rows_that_lack_cycles_are_counted() -> None:
    """A campaign of three cycles in which one configuration completed two says so, not "set cycles to 3"."""
    message = said([*cycles([100.0] * 3), *cycles([100.0] * 2, configuration="b")])
    assert message == "1 of 2 configurations completed fewer than 3 cycles: means without intervals"


def test_a_good_campaign_says_nothing() -> None:
    """Three shuffled cycles with a launch each, in one session on one GPU, need no comment."""
    observations = [
        one for name in "ab" for one in cycles([100.0] * 3, configuration=name, devices=("GPU-1",))
    ]
    assert said(observations) == ""


def test_grouped_order_says_so() -> None:
    """In grouped order a drift looks like a difference, and that is said; one configuration has no order."""
    assert "Grouped order" in said(cycles([100.0] * 3), structure="grouped")
    alone = summarise(cycles([100.0] * 3), expected("a"), confidence=FEW, structure="grouped")
    assert alone.messages == ()


@pytest.mark.parametrize(
    ("recycle_cycles", "launch", "message"),
    [
        (0, "x", "conditional on one launch"),
        (2, "x", "up to 2 cycles share a launch"),
        (0, None, ""),
        (1, "x", ""),
    ],
)
def test_cycles_that_share_a_launch_say_so(recycle_cycles: int, launch: str | None, message: str) -> None:
    """Where one launch did serve several cycles, the spread between launches is missing and that is said."""
    found = said(cycles([100.0] * 3, launch=launch), recycle_cycles=recycle_cycles)
    assert message in found
    assert bool(message) == bool(found)


def test_several_sessions_are_said() -> None:
    """A run that was continued on another day says in how many sessions it was measured."""
    observations = [*cycles([100.0] * 2), observation(100.0, cycle=3, session="tuesday")]
    assert "Measured in 2 sessions" in said(observations)


def test_configurations_of_different_sessions_are_named() -> None:
    """Where one was measured in one session and one in another, no interval covers what lies between the sessions."""
    apart = [*cycles([100.0] * 3), *cycles([100.0] * 3, configuration="b", session="tuesday")]
    assert "label of a in others than label of b: a difference between such configurations" in said(apart)
    mixed = [*apart, observation(100.0, cycle=4, session="tuesday")]
    assert "in others than" not in said(mixed)


def grouped(*axes: dict[str, Any]) -> str:
    """Return the messages on configurations with these axes, grouped by `length`."""
    asked = [Expected(str(place), str(place), of, 3) for place, of in enumerate(axes)]
    found = [one for each in asked for one in cycles([100.0] * 3, configuration=each.configuration)]
    return "\n".join(summarise(found, asked, confidence=FEW, group_by=["length"]).messages)


def test_groups_of_different_configurations_are_named() -> None:
    """Where an exclusion takes one batch size from one length only, the lengths differ in batch size too."""
    uneven = [
        {"length": "short", "batch": 1},
        {"length": "short", "batch": 8},
        {"length": "long", "batch": 1},
    ]
    assert "average 1 to 2 configurations, and not the same ones: they differ in batch too" in grouped(
        *uneven
    )
    assert grouped(*uneven, {"length": "long", "batch": 8}) == ""


def test_an_axis_of_one_group_alone_makes_it_no_other() -> None:
    """An axis that the other backend does not have says nothing about the axes that both have."""
    own = [{"length": "short", "batch": 1, "chunk": chunk} for chunk in (2, 4)]
    assert grouped(*own, {"length": "long", "batch": 1}) == ""


def test_different_gpus_in_one_mean_are_named() -> None:
    """A row whose cycles ran on two boards names their UUIDs."""
    observations = [observation(100.0, cycle=cycle, devices=(f"GPU-{cycle % 2}",)) for cycle in (1, 2, 3)]
    assert "1 of 2 configurations average over different GPUs (GPU-0, GPU-1)" in said(observations)


def test_rows_of_different_parts_are_not_to_be_compared() -> None:
    """Where one row's energy has the CPU in it and another's has not, one message says so and what can be compared."""
    parts = {"a": ("gpu", "cpu"), "b": ("gpu",)}
    observations = [
        one
        for name, summed in parts.items()
        for one in cycles([{ENERGY: 1.0}] * 3, configuration=name, parts={ENERGY: summed})
    ]
    message = said(observations)
    assert "the same parts of the machine in all configurations (gpu in 1, gpu + cpu in 1)" in message
    assert "energy_<domain>_j in results.csv" in message
    assert "parts of the machine" not in said(observations[:3])


def test_an_axis_that_does_not_exist_is_said() -> None:
    """`group_by` over what is no axis of the campaign names the axes that there are."""
    message = said(cycles([100.0] * 3), group_by=("batchsize",))
    assert message == "group_by: batchsize is no axis of this campaign (its axes: batch_size)"


@pytest.mark.parametrize(
    ("method", "counts", "text"),
    [
        ("auto", (3,), "Student t on logs, n = 3"),
        ("auto", (3, 5), "Student t on logs, n = 3 to 5"),
        ("auto", (7, 8), "Student t on logs, n = 7; studentized bootstrap on logs, n = 8"),
        ("percentile", (3,), "percentile bootstrap on logs, n = 3 (covers 75 %)"),
        ("bca", (3, 5), "BCa bootstrap on logs, n = 3 to 5 (covers 73 to 84 %)"),
    ],
)
def test_the_method_is_named_as_resolved(method: str, counts: tuple[int, ...], text: str) -> None:
    """The head of the table names method and n, and the coverage of a method that falls short."""
    confidence = Confidence.model_validate({"method": method, "resamples": 99})
    observations = [
        one
        for name, n in zip("ab", counts, strict=False)
        for one in cycles([100.0 + n] * n, configuration=name)
    ]
    assert summarise(observations, expected("a", "b"), confidence=confidence).method == text


def test_a_summary_survives_json() -> None:
    """What is written to summary.json reads back as the same summary."""
    summary = summarise(
        cycles([100.0, 102.0, 101.0, 99.0]), expected("a"), confidence=FEW, group_by=("batch_size",)
    )
    assert Summary.model_validate_json(summary.model_dump_json()) == summary
