"""How long a campaign will take, and what it has taken: before the start, after each cycle, at the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import results_of, summary
from scripted import Session
from standin.build import Gpu
from standin.curves import flat

Campaign = Callable[..., Path]


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--campaign=grid.yaml", *options)


def lines_with(done: pytest.RunResult, words: str) -> list[str]:
    return [line for line in done.stdout.lines if words in line]


def test_before_the_first_run_the_plan_says_what_it_assumes(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """Least and likely time stand in the header of a collection, with the number of starts that are assumed."""
    campaign(execution="seed: 1")
    settings = (
        "window.seconds=3600",
        "execution.config_gap_seconds=3600",
        "execution.cycle_gap_seconds=3600",
    )
    done = run(pytester, "--collect-only", *(word for s in settings for word in ("--campaign-set", s)))
    done.stdout.fnmatch_lines(
        ["*at least 7:00 h*", "plan: about 7.0 h (60 s assumed for each of 2 engine starts*"]
    )


def test_an_earlier_run_tells_how_long_it_takes(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The times of the newest run take the place of assumptions, for a collection, a new run and one that goes on."""
    campaign()
    load = ("--campaign-set", "defaults.abacus.load_s=0.5")
    run(pytester, *load)
    run_id = results_of(pytester.path)[0]["run_id"]
    more = ("--campaign-set", "execution.cycles=4")
    for options in (["--collect-only"], ["--collect-only", "--lf", *more], []):
        header = run(pytester, *load, *options).stdout.str()
        (seconds,) = re.findall(rf"plan: about ([\d.]+) s.* \(by the times of run {run_id}\b", header)
        assert 1.0 <= float(seconds) < 60  # two loads, and what a busy machine makes of the rest


def test_a_new_configuration_is_assumed_beside_known_ones(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """Of experiments that were never measured it is said that they are assumed."""
    path = campaign()
    run(pytester)
    path.write_text(path.read_text().replace("[1, 2]", "[1, 2, 4]"))
    done = run(pytester, "--collect-only")
    done.stdout.fnmatch_lines(
        ["plan: about * (4 of 6 experiments by the times of run *; else 60 s assumed *"]
    )


def test_where_nothing_is_left_there_is_no_plan(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """A session that has nothing to measure has no time to plan."""
    campaign()
    run(pytester)
    assert lines_with(run(pytester, "--lf"), "plan:") == []


def test_each_cycle_ends_with_a_line(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Between cycles a line says what was taken and what all will take; the end has its own."""
    campaign(execution="structure: interleaved")
    done = run(pytester, "--campaign-set", "execution.cycles=3")
    over = lines_with(done, " is over: ")
    assert [line.partition(":")[0] for line in over] == ["cycle 1 of 3 is over", "cycle 2 of 3 is over"]
    assert all("; in all about " in line for line in over)
    assert lines_with(run(pytester, "-q"), " is over: ") == []
    (spent,) = lines_with(done, "spent: ")
    assert "in all" not in spent


def test_a_grouped_campaign_has_a_line_a_configuration(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Where all cycles of a configuration come first, the line comes after them."""
    campaign(execution="structure: grouped")
    (line,) = lines_with(run(pytester), " is over: ")
    assert line.startswith("abacus-batch_size-1 is over: ")


def test_an_earlier_run_tells_what_the_energy_costs(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """After a run the plan of the next one has its energy in the same time, at the price of now."""
    campaign("cost: {price_per_kwh: 0.5}\n")
    settings = ("--campaign-set", "window.passes=100")
    run(pytester, *settings)
    so_far = summary(pytester.path)["spending"]["so_far"]
    doubled = ("--campaign-set", "cost.price_per_kwh=1", "--collect-only")
    (plan,) = lines_with(run(pytester, *settings, *doubled), "plan: ")
    kwh, cost = (float(found) for found in re.findall(r"~(\S+) kWh, cost (\S+) \(", plan)[0])
    assert kwh == cost
    assert 0 < kwh < 10 * so_far["energy_kwh"]
    (plan,) = lines_with(run(pytester, *settings, "--campaign-set", "grid.shared.batch_size=[4]"), "plan: ")
    assert "kWh" not in plan


@pytest.mark.key("cost.price_per_kwh", "cost.carbon_g_per_kwh")
def test_costs_are_those_of_the_prices(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """With prices costs stand in the lines and in summary.json, at price x kWh; without them nowhere."""
    campaign(
        "window: {passes: 100}\n".replace("window", "cost").replace(
            "passes: 100", "price_per_kwh: 0.5, carbon_g_per_kwh: 400"
        )
    )
    done = run(pytester, "--campaign-set", "window.passes=100")
    so_far = summary(pytester.path)["spending"]["so_far"]
    assert so_far["energy_kwh"] > 0
    assert so_far["cost"] == pytest.approx(0.5 * so_far["energy_kwh"])
    assert so_far["carbon_g"] == pytest.approx(400 * so_far["energy_kwh"])
    assert all("cost" in line and "g CO2e" in line for line in lines_with(done, "kWh"))
    free = ("--campaign-set", "cost.price_per_kwh=null", "--campaign-set", "cost.carbon_g_per_kwh=null")
    done = run(pytester, "--campaign-set", "window.passes=100", *free)
    assert not any("cost" in line or "CO2e" in line for line in lines_with(done, "kWh"))
    assert summary(pytester.path)["spending"]["so_far"]["cost"] is None


def test_a_continued_run_counts_what_it_took_before(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """The time of an earlier session, of its failed attempts too, is part of the run's."""
    campaign(grid="backends: [abacus]\nbackend_overrides: {abacus: {mood_file: mood}}\n")
    (pytester.path / "mood").write_text("pass-raise")
    run(pytester, "--campaign-set", "defaults.abacus.load_s=0.6")
    before_s = summary(pytester.path)["spending"]["so_far"]["seconds"]
    (pytester.path / "mood").unlink()
    run(pytester, "--lf", "--campaign-set", "defaults.abacus.load_s=0.6").assert_outcomes(passed=2)
    assert before_s > 1.2
    assert summary(pytester.path)["spending"]["so_far"]["seconds"] > before_s + 1.2


def test_the_energy_of_a_gpu_is_counted_in_windows_and_between_them(tmp_path: Path, nvml: Path) -> None:
    """On a GPU of constant 200 W the energy of the whole run is 200 W x its time, most of it from idle powers."""
    idle = ("defaults.baseline.enabled=true", "defaults.baseline.duration_sec=0.6")
    settings = ("execution.cycles=2", "execution.cycle_gap_seconds=1", "window.seconds=1")
    session = Session(tmp_path, nvml, [Gpu(flat(200))], *idle, *settings)
    found = summary(tmp_path)["spending"]
    so_far = found["so_far"]
    assert found["domains"] == ["gpu"]
    assert so_far["unknown_energy_s"] == 0
    assert so_far["energy_kwh"] * 3.6e6 == pytest.approx(200 * so_far["seconds"], rel=0.1)
    assert 0 < so_far["measured_kwh"] < so_far["energy_kwh"]
    assert re.search(
        r"spent: .*~.* kWh \(gpu; .* of it measured, in windows and engine starts\)", session.done.stdout
    )


def test_a_worker_of_xdist_has_its_line_at_the_end(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Under -n 1 the controller says what the run has taken."""
    campaign()
    assert len(lines_with(run(pytester, "-n", "1"), "spent: ")) == 1
