from __future__ import annotations

import time

from pytest_llem.meters.base import Reading, energy_between
from pytest_llem.meters.choose import BESIDE_ENGINE, ELSEWHERE, Meters
from pytest_llem.meters.estimate import CpuTimeModel
from pytest_llem.meters.unmetered import Unmetered
from pytest_llem.records import Quantity, Source


class Counter(Unmetered):
    """An instrument: 5 J more at each reading."""

    source: Source = "rapl"

    def __init__(self) -> None:
        self._energy_j = 0.0

    def read(self, *, at_tick: bool = False) -> Reading:
        del at_tick
        self._energy_j += 5.0
        return Reading(time.monotonic(), {"cpu": self._energy_j})

    def between(self, begin: Reading, end: Reading) -> dict[str, Quantity]:
        return energy_between(begin, end, self.source)


MODEL = CpuTimeModel(list, 3.5, "")


def total(meters: Meters) -> Quantity:
    return meters.between(meters.read(), meters.read())["total"]


def test_nothing_is_counted_of_a_model_elsewhere() -> None:
    """However well this machine is measured, the energy of a model on another one is not known, in any domain."""
    meters = Meters([Counter()]).seeing("elsewhere")
    begin, end = meters.read(), meters.read(at_tick=True)

    energy_j, power_w = meters.between(begin, end), meters.power_w(begin, end)
    assert energy_j.keys() == {"total", "gpu", "cpu", "dram"}
    assert {(q.value, q.source, q.note) for q in energy_j.values()} == {(None, "unavailable", ELSEWHERE)}
    assert power_w["total"].value is None
    assert not meters.have_instruments
    assert meters.sample() == []
    assert meters.flags(begin, end) == set()


def test_instruments_see_all_of_a_machine() -> None:
    """An instrument counts whatever works on its device, in the engine process or beside it."""
    meters = Meters([Counter()])
    assert total(meters.seeing("beside_engine")).value == 5.0
    assert total(meters.seeing("in_engine")).value == 5.0


def test_an_estimate_sees_the_engine_alone() -> None:
    """The estimate from CPU time counts the engine process, so of a model beside it nothing is known."""
    found = total(Meters([MODEL]).seeing("beside_engine"))
    assert (found.value, found.note) == (None, BESIDE_ENGINE)
    assert Meters([MODEL]).seeing("in_engine").read()[0].energy_j.keys() == {"cpu"}
