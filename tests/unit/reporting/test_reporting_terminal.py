"""What a campaign says before it runs and at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from factories import measurement, result
from pytest_llem.analysis.budgets import Verdict as BudgetVerdict
from pytest_llem.analysis.diagnostics import Diagnostic
from pytest_llem.analysis.summary import RowSummary, Summary
from pytest_llem.campaign.grid import Expansion, Point
from pytest_llem.campaign.rules import Verdict
from pytest_llem.records import Configuration, Result
from pytest_llem.reporting import terminal
from pytest_llem.state.health import HealthTally, Unhealthy
from pytest_llem.state.run_info import Difference

LATER = "the vllm backend comes with a later version"
FEW = "fewer prompts than 10 x the batch limit"


def point(name: str, verdict: Verdict = "valid", *reasons: str) -> Point:
    return Point(
        id=name,
        label=name,
        axes={},
        configuration=Configuration(backend="pytorch"),
        spec_hash=name,
        engine_key="key",
        verdict=verdict,
        reasons=reasons,
    )


def expansion(*, merged: int = 0) -> Expansion:
    """Return 4 points that run, 2 of them warned, and 3 that are filtered."""
    return Expansion(
        points=(point("a"), point("b"), point("c", "warned", FEW), point("d", "warned", FEW)),
        filtered=(
            point("e", "filtered", LATER),
            point("f", "filtered", LATER),
            point("g", "filtered", "too long"),
        ),
        generated=7 + merged,
        merged=merged,
    )


def test_the_validation_summary_adds_up() -> None:
    """The first line counts what runs, what does not and what is warned, and what that amounts to."""
    first = terminal.validation(expansion(), cycles=3, least_s=1110)[0]
    assert first == (
        "Generated 7 configurations: 4 valid, 3 filtered, 2 warned; 3 cycles = 12 experiments; at least 18 min"
    )


def test_reasons_are_grouped_with_their_counts() -> None:
    """Each reason is one line with the number of configurations it is about, the most frequent first."""
    assert terminal.validation(expansion(), cycles=3, least_s=0)[1:] == [
        f"  filtered 2: {LATER}",
        "  filtered 1: too long",
        f"  valid but warned 2: {FEW}",
    ]


def test_merged_points_are_counted() -> None:
    """Equal points that run once are said, so that the counts add up to what was generated."""
    lines = terminal.validation(expansion(merged=3), cycles=1, least_s=0)
    assert "Generated 10 configurations" in lines[0]
    assert "1 cycle = 4 experiments" in lines[0]
    assert lines[-1].startswith("  merged 3: ")


def test_merged_points_say_in_what_they_differed() -> None:
    """Each difference without effect is one line, and what is plainly equal is counted apart."""
    found = replace(expansion(merged=5), differences={"a, which has no effect without b": 3})
    assert terminal.validation(found, cycles=1, least_s=0)[-2:] == [
        "  merged 3: differ from a valid one only in a, which has no effect without b",
        "  merged 2: equal to a valid one, and measured with it",
    ]


def test_figures_stand_behind_their_reason() -> None:
    """A reason with numbers is followed by those of the configuration that it holds of most."""
    found = replace(expansion(), figures={"too long": "9 GB into 8 GB"})
    assert "  filtered 1: too long; at most 9 GB into 8 GB" in terminal.validation(found, cycles=1, least_s=0)


def test_resuming_has_its_fixed_wording() -> None:
    """The line that scripts look for when a run is continued."""
    assert terminal.resuming(7, 5, 1) == "Resuming: 7 remaining (5 completed, 1 failed)"


def test_an_edit_is_told_in_one_line() -> None:
    """New, changed and gone configurations are counted and named, long lists shortened."""
    found = Difference(new=tuple("abcdefg"), changed=("x",), gone=())
    assert terminal.difference(found) == [
        "since the last session: 7 new (a, b, c, d, e and 2 more), 1 changed (x)"
    ]
    assert terminal.difference(Difference((), (), ())) == []


def row(label: str, *budgets: BudgetVerdict) -> RowSummary:
    return RowSummary(
        key=label,
        label=label,
        axes={},
        n=3,
        of=3,
        launches=3,
        sources=(),
        flags={},
        failures={},
        metrics={},
        budgets=budgets,
    )


def budget(outcome: str, message: str, *, failed: bool) -> BudgetVerdict:
    return BudgetVerdict.model_validate(
        {
            "metric": "energy_j",
            "bound": "max",
            "limit": 1,
            "outcome": outcome,
            "failed": failed,
            "message": message,
        }
    )


def diagnostic(name: str, *, flagged: bool) -> Diagnostic:
    return Diagnostic(name=name, metric="energy_j", value=2.0, text=f"{name}: +2.0 %", flagged=flagged)


def summary(rows: Sequence[RowSummary] = (), diagnostics: Sequence[Diagnostic] = ()) -> Summary:
    return Summary(
        level=0.95,
        method="",
        rows=tuple(rows),
        diagnostics=tuple(diagnostics),
        messages=("Single cycle: say so",),
    )


def test_messages_come_first_and_flagged_diagnostics_are_marked() -> None:
    """What is flagged is shown with a mark; what is not stays in summary.json."""
    found = summary(diagnostics=[diagnostic("drift", flagged=True), diagnostic("outliers", flagged=False)])
    assert terminal.messages(found) == ["Single cycle: say so", "! drift: +2.0 %"]


def test_flags_name_their_configurations() -> None:
    """Each flag is one line with the configurations that carry it, and in how many of their cycles."""
    flagged = [row(name).model_copy(update={"flags": {"warmup_not_converged": 2}}) for name in ("a", "b")]
    assert terminal.messages(summary(flagged))[1:] == ["! warmup not converged: a 2 of 3, b 2 of 3"]


def test_a_quiet_machine_gets_one_line() -> None:
    """Without anything to flag one line says what was looked for."""
    found = summary(diagnostics=[diagnostic("drift", flagged=False), diagnostic("outliers", flagged=False)])
    assert terminal.messages(found)[1:] == [
        "diagnostics: nothing to flag in drift, outliers (numbers in summary.json)"
    ]


def test_budgets_that_were_not_plainly_met_are_told() -> None:
    """Verdicts other than `met` are shown with their configuration, those that fail the session marked."""
    over = budget("over", "over budget: 2 > 1", failed=True)
    unsure = budget("inconclusive", "within budget, not for certain", failed=False)
    found = summary(
        [row("a", over), row("b", unsure), row("c", budget("met", "within budget", failed=False))]
    )
    assert terminal.messages(found)[1:] == ["! a: over budget: 2 > 1", "b: within budget, not for certain"]


def test_the_health_of_services_is_one_line() -> None:
    """Checks, restarts by backend, time without Docker, and what is unhealthy since when and why."""
    tally = HealthTally(
        checks=12,
        restarts={"vllm": 1, "pytorch": 2},
        unhealthy={"vllm": Unhealthy(2, "it does not run")},
        memory_not_freed=1,
        unavailable_s=75.0,
    )
    (line,) = terminal.health(tally)
    assert line == (
        "health: 12 checks, 2 restarts of pytorch, 1 restart of vllm, GPU memory of an ended engine not freed 1 time,"
        " 1:15 without a Docker engine, vllm unhealthy since cycle 2: it does not run"
    )


def test_health_that_nobody_looked_at_is_not_told() -> None:
    """Without checks and without anything that happened there is no line."""
    assert terminal.health(HealthTally()) == []
    assert terminal.health(HealthTally(checks=1)) == ["health: 1 check"]


def rerun(one: Result) -> str:
    return f"pytest 'sizes.yaml::{one.experiment_id}'"


def test_a_failure_has_class_message_log_and_command() -> None:
    """Each failed experiment shows why, the end of its log, and what to type to run it again."""
    log = "\n".join(f"log line {number}" for number in range(1, 21)) + "\n"
    lines = terminal.failures([result(failed="oom", message="no\nmemory", log_tail=log)], rerun=rerun)
    assert lines == [
        "1 experiment failed: oom 1",
        "oom: no memory",
        *(f"  | log line {number}" for number in range(16, 21)),
        "  rerun: pytest 'sizes.yaml::pytorch-batch_size=8-c1'",
    ]


def test_an_experiment_refused_after_its_measurement_is_told_too() -> None:
    """A result with both measurement and failure is a failure."""
    refused = result(failed="not_measured", measurement=measurement(energy_source="model"))
    assert terminal.failures([refused], rerun=rerun)[0] == "1 experiment failed: not_measured 1"


def test_one_cause_is_told_once() -> None:
    """Thirty failures of one cause show it once with a few commands; a rare cause is told beside it."""
    failed = [result(cycle=cycle, failed="oom") for cycle in range(1, 31)]
    failed.append(result(cycle=31, failed="timeout", message="too slow"))
    lines = terminal.failures(failed, rerun=rerun)
    assert lines[0] == "31 experiments failed: oom 30, timeout 1"
    assert "timeout: too slow" in lines
    assert sum(line.startswith("oom: ") for line in lines) == 1
    assert sum(line.startswith("  rerun: ") for line in lines) == 6
    assert "  and 25 more experiments with this cause; --lf runs them all" in lines


def test_beyond_the_limit_causes_are_counted() -> None:
    """A campaign in which everything fails differently does not flood the terminal."""
    failed = [result(cycle=cycle, failed="crashed", message=f"bead {cycle}") for cycle in range(1, 6)]
    assert terminal.failures(failed, rerun=rerun, limit=2)[-1] == "and 3 more: crashed 3"


def test_without_failures_nothing_is_said() -> None:
    """A campaign without failures has no section for them."""
    assert terminal.failures([], rerun=rerun) == []
