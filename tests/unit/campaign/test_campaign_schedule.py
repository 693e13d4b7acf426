from __future__ import annotations

import random
from collections import Counter
from itertools import groupby, pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.campaign.grid import Point
from pytest_llem.campaign.identity import POINT_ID_BYTES
from pytest_llem.campaign.schedule import (
    Check,
    Condition,
    EndLaunch,
    Experiment,
    Gap,
    Renew,
    Step,
    Stop,
    Structure,
    order,
    plan,
)
from pytest_llem.campaign.schema import Campaign, ColdStart, Execution, HealthCheck
from pytest_llem.records import Configuration

STRUCTURES: tuple[Structure, ...] = get_args(Structure)
structures = st.sampled_from(STRUCTURES)
cycles = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)


def point(key: str, name: str) -> Point:
    return Point(
        id=f"{key}-{name}",
        label=f"{key} {name}",
        axes={},
        configuration=Configuration(),
        spec_hash=f"{key}{name}",
        engine_key=key,
        verdict="valid",
        reasons=(),
    )


def points_of(sizes: list[int]) -> list[Point]:
    """Return points that alternate between engine keys, with so many points for each key."""
    rounds = range(max(sizes, default=0))
    return [point(f"k{key}", f"p{i}") for i in rounds for key, size in enumerate(sizes) if i < size]


some_points = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(points_of)


def campaign(
    *,
    cycles: int = 2,
    structure: Structure = "shuffled",
    cold: bool = False,
    new_containers: bool = False,
    interval: int | None = 0,
    **execution: object,
) -> Campaign:
    """Return a campaign; with `interval=None` its services are not looked at."""
    return Campaign(
        campaign_name="c",
        execution=Execution.model_validate({"cycles": cycles, "structure": structure} | execution),
        cold_start=ColdStart(force_cold_start=cold, restart_container=new_containers),
        health_check=HealthCheck(enabled=interval is not None, interval_experiments=interval or 0),
    )


def planned(points: list[Point], asked: Campaign, seed: int = 1) -> list[Stop]:
    """Return the way of a first session through a whole campaign."""
    execution = asked.execution
    experiments = order(
        points,
        cycles=execution.cycles,
        structure=execution.structure,
        seed=seed,
        force_cold_start=asked.cold_start.force_cold_start,
    )
    return plan(experiments, asked)


def launches(stops: list[Stop]) -> int:
    return len({stop.launch for stop in stops})


# --- Order ---


@given(some_points, cycles, structures, seeds, st.booleans())
def test_every_point_runs_once_in_every_cycle(
    points: list[Point], cycles: int, structure: Structure, seed: int, cold: bool
) -> None:
    """No structure loses or repeats an experiment; positions and ids tell them apart."""
    run = order(points, cycles=cycles, structure=structure, seed=seed, force_cold_start=cold)
    assert Counter((e.point.id, e.cycle) for e in run) == Counter(
        (p.id, cycle) for p in points for cycle in range(1, cycles + 1)
    )
    assert [e.position for e in run] == list(range(len(run)))
    assert len({e.id for e in run}) == len(run)


@given(some_points, cycles, structures, seeds, st.booleans())
def test_order_depends_on_the_seed_alone(
    points: list[Point], cycles: int, structure: Structure, seed: int, cold: bool
) -> None:
    """A session that continues a run finds the order of its first session, whatever else draws numbers."""
    first = order(points, cycles=cycles, structure=structure, seed=seed, force_cold_start=cold)
    random.seed(0)
    assert order(points, cycles=cycles, structure=structure, seed=seed, force_cold_start=cold) == first


@given(some_points, cycles, st.sampled_from(["shuffled", "interleaved"]), seeds, st.booleans())
def test_cycle_is_a_contiguous_block(
    points: list[Point], cycles: int, structure: Structure, seed: int, cold: bool
) -> None:
    """A cycle ends before the next one begins, so that it is a statistical block."""
    run = order(points, cycles=cycles, structure=structure, seed=seed, force_cold_start=cold)
    assert [cycle for cycle, _ in groupby(e.cycle for e in run)] == list(range(1, cycles + 1))


@given(some_points, cycles, st.sampled_from(["shuffled", "interleaved"]), seeds)
def test_points_of_one_engine_key_stay_together_within_a_cycle(
    points: list[Point], cycles: int, structure: Structure, seed: int
) -> None:
    """One launch a cycle can serve all points of a key."""
    run = order(points, cycles=cycles, structure=structure, seed=seed)
    for _, cycle in groupby(run, key=lambda e: e.cycle):
        keys = [key for key, _ in groupby(e.point.engine_key for e in cycle)]
        assert len(keys) == len(set(keys))


@given(some_points, cycles, seeds)
def test_grouped_runs_all_cycles_of_a_point_in_a_row(points: list[Point], cycles: int, seed: int) -> None:
    """Nothing comes between the cycles of a point, and points of a key are still neighbours."""
    run = order(points, cycles=cycles, structure="grouped", seed=seed)
    assert [e.cycle for e in run] == list(range(1, cycles + 1)) * len(points)
    keys = [key for key, _ in groupby(e.point.engine_key for e in run)]
    assert len(keys) == len(set(keys))


def test_interleaved_repeats_the_order_of_the_file() -> None:
    """Every cycle has the order of the file, keys in the place of their first point."""
    run = order(points_of([2, 1]), cycles=2, structure="interleaved", seed=1)
    assert [e.point.id for e in run] == ["k0-p0", "k0-p1", "k1-p0"] * 2


def test_interleaved_cold_start_keeps_the_order_of_the_file() -> None:
    """Without launches to share there is no reason to bring points together."""
    run = order(points_of([2, 1]), cycles=1, structure="interleaved", seed=1, force_cold_start=True)
    assert [e.point.id for e in run] == ["k0-p0", "k1-p0", "k0-p1"]


def test_shuffled_order_is_pinned() -> None:
    """A stored seed gives the same order in every version of Python and of this package."""
    run = order(points_of([3, 2, 1]), cycles=2, structure="shuffled", seed=20_261_122)
    assert [e.id for e in run] == [
        "k1-p0-c1",
        "k1-p1-c1",
        "k2-p0-c1",
        "k0-p1-c1",
        "k0-p2-c1",
        "k0-p0-c1",
        "k0-p2-c2",
        "k0-p1-c2",
        "k0-p0-c2",
        "k1-p0-c2",
        "k1-p1-c2",
        "k2-p0-c2",
    ]


def test_each_cycle_is_shuffled_anew() -> None:
    """Over some cycles both keys and points within a key change their places."""
    run = order(points_of([4, 4]), cycles=12, structure="shuffled", seed=3)
    per_cycle = [[e.point for e in group] for _, group in groupby(run, key=lambda e: e.cycle)]
    assert len({points[0].engine_key for points in per_cycle}) == 2
    assert len({tuple(p.id for p in points if p.engine_key == "k0") for points in per_cycle}) > 6


def test_every_point_takes_every_place_about_equally_often() -> None:
    """Shuffling favours no point, so that drift within a cycle falls on all alike."""
    run = order(points_of([1, 1, 1, 1]), cycles=2000, structure="shuffled", seed=5)
    places = Counter((e.point.id, e.position % 4) for e in run)
    assert len(places) == 16
    assert all(400 < count < 600 for count in places.values())


def test_cold_start_mixes_points_across_keys() -> None:
    """With a launch for every experiment the points of a key need not stay together."""
    run = order(points_of([4, 4]), cycles=1, structure="shuffled", seed=1, force_cold_start=True)
    assert len([key for key, _ in groupby(e.point.engine_key for e in run)]) > 2


@given(some_points, seeds, st.integers(1, 5))
def test_more_cycles_leave_the_earlier_ones_as_they_were(points: list[Point], seed: int, more: int) -> None:
    """A campaign that is lengthened continues; it does not start over."""
    short = order(points, cycles=2, structure="shuffled", seed=seed)
    assert order(points, cycles=2 + more, structure="shuffled", seed=seed)[: len(short)] == short


def test_id_of_an_experiment_has_at_most_120_bytes() -> None:
    """The longest point id leaves room for its cycle, also for one of ten digits."""
    longest = point("k", "x" * (POINT_ID_BYTES - len("k-")))
    assert len(Experiment(longest, 9_999_999_999, 0).id) == 120
    assert Experiment(point("k", "p"), 3, 0).id == "k-p-c3"


# --- Launches ---


def test_two_keys_three_sizes_two_cycles_take_four_launches() -> None:
    """By default a launch serves all points of its key in one cycle, and no further."""
    assert launches(planned(points_of([3, 3]), campaign())) == 4


def test_two_keys_three_sizes_two_cycles_take_twelve_cold_launches() -> None:
    """`force_cold_start` gives every experiment a launch of its own."""
    stops = planned(points_of([3, 3]), campaign(cold=True))
    assert launches(stops) == 12
    assert all(stop.new_launch for stop in stops)


@given(some_points, cycles, st.sampled_from(["shuffled", "interleaved"]), seeds)
def test_each_key_has_one_launch_a_cycle(
    points: list[Point], cycles: int, structure: Structure, seed: int
) -> None:
    """The spread between launches is inside the spread between cycles."""
    stops = planned(points, campaign(cycles=cycles, structure=structure), seed)
    keys = {p.engine_key for p in points}
    assert launches(stops) == len(keys) * cycles


@given(
    points=some_points,
    cycles=cycles,
    structure=structures,
    seed=seeds,
    recycle=st.integers(0, 3),
    cold=st.booleans(),
)
def test_launch_serves_neighbours_of_one_key_in_few_cycles(
    *, points: list[Point], cycles: int, structure: Structure, seed: int, recycle: int, cold: bool
) -> None:
    """A launch never serves two keys, nor more cycles than `recycle_cycles`; ordinals count up from 1."""
    asked = campaign(cycles=cycles, structure=structure, cold=cold, recycle_cycles=recycle)
    stops = planned(points, asked, seed)
    assert [launch for launch, _ in groupby(stop.launch for stop in stops)] == list(
        range(1, launches(stops) + 1)
    )
    for _, group in groupby(stops, key=lambda stop: stop.launch):
        served = list(group)
        assert [stop.new_launch for stop in served] == [True] + [False] * (len(served) - 1)
        assert len({stop.experiment.point.engine_key for stop in served}) == 1
        assert not recycle or len({stop.experiment.cycle for stop in served}) <= recycle
        assert not cold or len(served) == 1


@pytest.mark.parametrize(("recycle", "expected"), [(1, 6), (2, 3), (3, 2), (5, 2), (0, 1)])
def test_recycle_cycles_bounds_the_cycles_of_a_launch(recycle: int, expected: int) -> None:
    """0 keeps a launch as long as nothing else ends it."""
    assert launches(planned(points_of([2]), campaign(cycles=6, recycle_cycles=recycle))) == expected


@given(some_points, structures, seeds, st.booleans())
def test_old_engine_is_ended_before_every_new_launch_and_only_then(
    points: list[Point], structure: Structure, seed: int, cold: bool
) -> None:
    """A slot holds at most one live engine."""
    stops = planned(points, campaign(structure=structure, cold=cold, conditioning=False), seed)
    assert stops[0].before == ()
    for previous, stop in pairwise(stops):
        ended = [step.launch for step in stop.before if isinstance(step, EndLaunch)]
        assert ended == ([previous.launch] if stop.new_launch else [])


def reasons(stops: list[Stop]) -> list[str]:
    return [step.reason for stop in stops for step in stop.before if isinstance(step, EndLaunch)]


def test_reason_for_the_end_of_a_launch_is_named() -> None:
    """The journal says why a process had to go."""
    quiet = {"structure": "interleaved", "conditioning": False}
    assert reasons(planned(points_of([1, 1]), campaign(cycles=1, **quiet))) == ["other engine key"]  # type: ignore[arg-type]
    assert reasons(planned(points_of([1]), campaign(**quiet))) == ["recycled"]  # type: ignore[arg-type]
    assert reasons(planned(points_of([1]), campaign(cold=True, **quiet))) == ["cold start"]  # type: ignore[arg-type]


# --- Gaps and conditioning ---


def gaps(stop: Stop) -> list[Gap]:
    return [step for step in stop.before if isinstance(step, Gap)]


@given(some_points, cycles, structures, seeds, st.booleans())
def test_gap_stands_before_every_experiment_but_the_first(
    points: list[Point], cycles: int, structure: Structure, seed: int, cold: bool
) -> None:
    """Between cycles it is the cycle gap, within one the config gap, each with its own length."""
    asked = campaign(cycles=cycles, structure=structure, cold=cold, config_gap_seconds=3, cycle_gap_seconds=5)
    stops = planned(points, asked, seed)
    assert gaps(stops[0]) == []
    for previous, stop in pairwise(stops):
        same_cycle = previous.experiment.cycle == stop.experiment.cycle
        assert gaps(stop) == [Gap("config", 3.0) if same_cycle else Gap("cycle", 5.0)]


@pytest.mark.parametrize(("gap", "band_celsius", "least_s"), [("fixed", None, 10.0), ("thermal", 4.0, 0.0)])
def test_thermal_gap_has_a_band_and_may_be_short(
    gap: str, band_celsius: float | None, least_s: float
) -> None:
    """Its seconds are a cap, so they do not count for the least duration of a campaign."""
    stops = planned(points_of([1, 1]), campaign(gap=gap, gap_band_celsius=4))
    first, *_ = gaps(stops[1])
    assert (first.band_celsius, first.least_s) == (band_celsius, least_s)


def test_gap_of_no_length_is_no_step() -> None:
    """Nothing is waited for, and nothing is recorded as a wait."""
    stops = planned(points_of([2, 2]), campaign(config_gap_seconds=0, cycle_gap_seconds=0))
    assert not any(map(gaps, stops))


def test_engine_is_ended_before_the_gap() -> None:
    """Every load finds a device that has rested without a context."""
    stops = planned(points_of([1, 1]), campaign(structure="interleaved"))
    assert [type(step) for step in stops[1].before] == [EndLaunch, Gap]


@given(some_points, st.data())
def test_each_session_conditions_once_before_its_first_experiment(
    points: list[Point], data: st.DataObject
) -> None:
    """Conditioning has a launch of its own, so that the first experiment loads as all others do."""
    asked = campaign()
    experiments = [stop.experiment for stop in planned(points, asked)]
    done = data.draw(st.sets(st.sampled_from(range(len(experiments))), max_size=len(experiments) - 1))
    stops = plan([e for e in experiments if e.position not in done], asked)
    assert stops[0].before == (Condition(0), EndLaunch(0, "conditioned"))
    assert not any(isinstance(step, Condition) for stop in stops[1:] for step in stop.before)
    assert 0 not in {stop.launch for stop in stops}


def test_conditioning_can_be_left_out() -> None:
    """`execution.conditioning: false` starts with the first experiment."""
    assert planned(points_of([2]), campaign(conditioning=False))[0].before == ()


@given(some_points, structures, st.data())
def test_session_that_continues_keeps_the_order_of_what_is_left(
    points: list[Point], structure: Structure, data: st.DataObject
) -> None:
    """A plan takes the experiments as they come and drops none."""
    asked = campaign(structure=structure)
    experiments = [stop.experiment for stop in planned(points, asked)]
    left = [e for e in experiments if data.draw(st.booleans())]
    assert [stop.experiment for stop in plan(left, asked)] == left


# --- Health and new containers ---


def steps(stop: Stop, kind: type[Step]) -> list[Step]:
    return [step for step in stop.before if isinstance(step, kind)]


def checks(stops: list[Stop]) -> list[int]:
    """Return the places of the experiments that services are looked at before."""
    return [place for place, stop in enumerate(stops) if steps(stop, Check)]


@given(points=some_points, cycles=cycles, structure=structures, seed=seeds, interval=st.integers(0, 5))
def test_services_are_looked_at_between_cycles_and_after_so_many_experiments(
    *, points: list[Point], cycles: int, structure: Structure, seed: int, interval: int
) -> None:
    """A look stands before each experiment of another cycle, and where none was for `interval` experiments."""
    stops = planned(points, campaign(cycles=cycles, structure=structure, interval=interval), seed)
    assert steps(stops[0], Check) == []
    last = 0
    for place, (previous, stop) in enumerate(pairwise(stops), 1):
        if previous.experiment.cycle != stop.experiment.cycle:
            expected: list[Step] = [Check("cycle")]
        else:
            expected = [Check("interval")] if place - last == interval else []
        assert steps(stop, Check) == expected
        last = place if expected else last


@pytest.mark.parametrize(
    ("interval", "places"), [(None, []), (0, [4]), (1, [1, 2, 3, 4, 5, 6, 7]), (3, [3, 4, 7]), (9, [4])]
)
def test_interval_counts_from_the_last_look(interval: int | None, places: list[int]) -> None:
    """Two cycles of four experiments: 0 looks between them only, and a switched-off check never."""
    stops = planned(points_of([4]), campaign(interval=interval))
    assert checks(stops) == places


@given(points=some_points, structure=structures, seed=seeds, cold=st.booleans(), new=st.booleans())
def test_container_is_new_for_every_experiment_of_a_cold_start_alone(
    *, points: list[Point], structure: Structure, seed: int, cold: bool, new: bool
) -> None:
    """`restart_container` does nothing without `force_cold_start`."""
    stops = planned(points, campaign(structure=structure, cold=cold, new_containers=new), seed)
    assert all(steps(stop, Renew) == ([Renew()] if cold and new else []) for stop in stops)


def test_first_experiment_finds_a_container_that_conditioning_has_not_used() -> None:
    """The new container comes after the conditioning, so that the first load is as cold as the others."""
    stops = planned(points_of([1]), campaign(cold=True, new_containers=True))
    assert [type(step) for step in stops[0].before] == [Condition, EndLaunch, Renew]


def test_gap_comes_last() -> None:
    """The engine is ended, the container new and looked at, and then the device rests."""
    stops = planned(points_of([1]), campaign(cold=True, new_containers=True))
    assert [type(step) for step in stops[1].before] == [EndLaunch, Renew, Check, Gap]
