"""Rounds as the unit: the cycles of one round share its hour, its temperature and its neighbours.

Three rounds of two cycles are n = 3. Counted as six, a 95 % interval covers 89 %; four rounds of five as twenty, 72 %.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pytest_llem.analysis.intervals import mean
from pytest_llem.analysis.observations import PLACE, Observation, newest, why_no_mean
from pytest_llem.records import METRICS, Source

_Merged = tuple[float, Source, tuple[str, ...], str | None]
"""Value, source, its parts, and the reason where there is no value."""


def merge(observations: Iterable[Observation], number: int) -> list[Observation]:
    """Return what a round says of each configuration: the mean over the cycles that it completed.

    Args:
        observations: all attempts of the round's run.
        number: of the round; it takes the place of the cycle.
    """
    of_configuration: defaultdict[str, list[Observation]] = defaultdict(list)
    for one in newest(observations):
        of_configuration[one.configuration].append(one)
    return [_merged(cycles, number) for cycles in of_configuration.values()]


def _merged(cycles: Sequence[Observation], number: int) -> Observation:
    completed = [one for one in cycles if one.status == "completed"]
    if not completed:
        return replace(cycles[0], cycle=number)
    values, sources, parts, reasons = zip(*(_metric(name, completed) for name in METRICS), strict=True)
    launches = dict.fromkeys(one.launch for one in completed if one.launch)
    return replace(
        completed[0],
        cycle=number,
        more_launches=tuple(launches)[1:],
        flags=tuple(dict.fromkeys(flag for one in completed for flag in one.flags)),
        throttle_share=max(
            (one.throttle_share for one in completed if one.throttle_share is not None), default=None
        ),
        devices=tuple(sorted({uuid for one in completed for uuid in one.devices})),
        values=array("d", values),
        sources=sources,
        parts=parts,
        reasons=reasons,
    )


def _metric(name: str, completed: Sequence[Observation]) -> _Merged:
    place = PLACE[name]
    known = [one for one in completed if not math.isnan(one.values[place])]
    if not known:
        return math.nan, completed[0].sources[place], (), completed[0].reasons[place]
    if why := why_no_mean(known, name):
        return math.nan, "unavailable", (), f"a round has {why}"
    values = [one.values[place] for one in known]
    logarithmic = METRICS[name].logarithmic and min(values) > 0
    return mean(values, logarithmic=logarithmic), known[0].sources[place], known[0].parts[place], None
