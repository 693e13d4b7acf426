"""What a run takes: time and energy of all its sessions, with what lies between the windows.

Instruments are read around windows and around the starts of engines. In between a machine warms up, waits and idles:
that energy is time x a power that was measured at another time, and so an estimate. Where no such power is known, the
time is counted as time of unknown energy, never as 0 J.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from pytest_llem.campaign.schema import Cost
from pytest_llem.records import MEASURED_ENERGY, Idle, IdleKind, Measurement, PrefillReport, Record, Result

JOULES_PER_KWH = 3.6e6


class Expenses(Record):
    """Time and energy.

    Attributes:
        seconds: of each session from its first gap, or the start of its first service, to its last result.
        energy_j: all that is known, measured and estimated; None: nothing is.
        measured_j: of it, what instruments counted in windows and starts of engines.
        unknown_s: of the seconds, those of whose energy nothing is known.
    """

    seconds: float
    energy_j: float | None
    measured_j: float
    unknown_s: float

    @property
    def energy_kwh(self) -> float | None:
        """The energy in kWh."""
        return None if self.energy_j is None else self.energy_j / JOULES_PER_KWH

    def times(self, share: float) -> Expenses:
        """Return what `share` of the same takes."""
        return Expenses(
            seconds=share * self.seconds,
            energy_j=None if self.energy_j is None else share * self.energy_j,
            measured_j=share * self.measured_j,
            unknown_s=share * self.unknown_s,
        )


class Bill(Record):
    """Expenses as files and terminal have them.

    Attributes:
        measured_kwh: the part of `energy_kwh` that instruments counted; the rest is estimated.
        unknown_energy_s: of the seconds, those whose energy is in no number here.
        cost: at `cost.price_per_kwh`, in its currency.
        carbon_g: CO2e in g, at `cost.carbon_g_per_kwh`.
    """

    seconds: float
    energy_kwh: float | None
    measured_kwh: float
    unknown_energy_s: float
    cost: float | None
    carbon_g: float | None


class SpendingReport(Record):
    """What a run has taken, and what it will have.

    Attributes:
        domains: whose energy is counted: `gpu`, `cpu`, `dram`.
        so_far: all sessions of the run.
        in_all: with the experiments that it still lacks, by what the others took; None: it lacks none, or nothing is
            known yet.
        stopped_by: which budget of the run ended the session, and why; None: none did.
    """

    domains: tuple[str, ...]
    so_far: Bill
    in_all: Bill | None
    stopped_by: str | None


def bill(taken: Expenses, cost: Cost) -> Bill:
    """Return expenses with what they cost."""
    kwh = taken.energy_kwh

    def at(price: float | None) -> float | None:
        return None if kwh is None or price is None else kwh * price

    return Bill(
        seconds=taken.seconds,
        energy_kwh=kwh,
        measured_kwh=taken.measured_j / JOULES_PER_KWH,
        unknown_energy_s=taken.unknown_s,
        cost=at(cost.price_per_kwh),
        carbon_g=at(cost.carbon_g_per_kwh),
    )


def expenses(billed: Bill) -> Expenses:
    """Return what a bill was made of, for another price."""
    return Expenses(
        seconds=billed.seconds,
        energy_j=None if billed.energy_kwh is None else billed.energy_kwh * JOULES_PER_KWH,
        measured_j=billed.measured_kwh * JOULES_PER_KWH,
        unknown_s=billed.unknown_energy_s,
    )


def together(one: Expenses, other: Expenses) -> Expenses:
    """Return the sum of expenses; its energy is known if both are."""
    both_j = None if one.energy_j is None or other.energy_j is None else one.energy_j + other.energy_j
    return Expenses(
        seconds=one.seconds + other.seconds,
        energy_j=both_j,
        measured_j=one.measured_j + other.measured_j,
        unknown_s=one.unknown_s + other.unknown_s,
    )


@dataclass(slots=True)
class _Sum:
    """Experiments, added up.

    Attributes:
        metered: how many have energy.
        bare_s, loaded_s: time without work, before the start of an engine and beside one.
        unknown_s: time of work whose energy is not known.
    """

    experiments: float = 0
    metered: float = 0
    seconds: float = 0.0
    measured_j: float = 0.0
    estimated_j: float = 0.0
    bare_s: float = 0.0
    loaded_s: float = 0.0
    unknown_s: float = 0.0

    def add(self, other: _Sum, share: float = 1.0) -> None:
        """Add a share of another sum."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + share * getattr(other, one.name))

    def work(self, energy_j: float | None, seconds: float, *, measured: bool) -> None:
        """Turn time without work into time with this energy; None: it is not known."""
        worked_s = min(self.loaded_s, seconds)
        self.loaded_s -= worked_s
        if energy_j is None:
            self.unknown_s += worked_s
            return
        self.metered = 1
        if measured:
            self.measured_j += energy_j
        else:
            self.estimated_j += energy_j


@dataclass
class Book:
    """The expenses of one run. Results may come in any order, each once.

    Attributes:
        cycles: those of which there are results.
        completed: how many results are.
        domains: whose energy is in the sums.
    """

    cycles: set[int] = field(default_factory=set)
    completed: int = 0
    domains: dict[str, None] = field(default_factory=dict)
    _all: _Sum = field(default_factory=_Sum)
    _by_configuration: dict[str, _Sum] = field(default_factory=dict)
    _sessions: dict[str, tuple[float, float]] = field(default_factory=dict)
    _idle: dict[IdleKind, Idle] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Take in one attempt."""
        begin_s, end_s = _span_s(result)
        first_s, last_s = self._sessions.get(result.session_id, (begin_s, end_s))
        self._sessions[result.session_id] = min(first_s, begin_s), max(last_s, end_s)
        taken = _taken(result, end_s - begin_s)
        self._all.add(taken)
        self._by_configuration.setdefault(result.spec_hash, _Sum()).add(taken)
        self.cycles.add(result.cycle)
        self.completed += result.status == "completed"
        if found := result.measurement:
            for energy in (found.energy_j["total"], found.launch.cold_start_energy_j):
                self.domains |= dict.fromkeys(energy.parts)
            for kind, idle in found.idle.items():
                if kind not in self._idle or idle.measured_at > self._idle[kind].measured_at:
                    self._idle[kind] = idle

    @property
    def configurations(self) -> set[str]:
        """The spec hashes of which there are results."""
        return set(self._by_configuration)

    def so_far(self) -> Expenses:
        """Return what the run has taken."""
        return self._expenses(self._all, self._seconds())

    def ahead(self, configurations: Iterable[str]) -> Expenses | None:
        """Return what experiments will take, by what those of their configurations took on average.

        A configuration of which nothing is known is taken for the mean of all. None: no experiment is over yet.

        Args:
            configurations: the spec hash of each experiment.
        """
        if not self._all.experiments:
            return None
        total = _Sum()
        for configuration, count in Counter(configurations).items():
            known = self._by_configuration.get(configuration, self._all)
            total.add(known, count / known.experiments)
        between = self._seconds() / self._all.seconds if self._all.seconds else 1.0
        return self._expenses(total, total.seconds * between)

    def _seconds(self) -> float:
        return sum(end_s - begin_s for begin_s, end_s in self._sessions.values())

    def _expenses(self, known: _Sum, seconds: float) -> Expenses:
        """Add what idle time takes; between experiments, where engines end, a machine is taken to be loaded."""
        loaded_s = known.loaded_s + max(0.0, seconds - known.seconds)
        energy_j, unknown_s = known.measured_j + known.estimated_j, known.unknown_s
        for power_w, idle_s in ((self._power_w("bare"), known.bare_s), (self._power_w("loaded"), loaded_s)):
            if power_w is None:
                unknown_s += idle_s
            else:
                energy_j += power_w * idle_s
        if not known.metered:
            return Expenses(seconds=seconds, energy_j=None, measured_j=0.0, unknown_s=seconds)
        return Expenses(
            seconds=seconds, energy_j=energy_j, measured_j=known.measured_j, unknown_s=min(unknown_s, seconds)
        )

    def _power_w(self, kind: IdleKind) -> float | None:
        """Return the newest idle power of this kind, of all domains that a total has."""
        total = self._idle[kind].power_w.get("total") if kind in self._idle else None
        return total.value if total else None


def _span_s(result: Result) -> tuple[float, float]:
    """Return begin and end of an attempt, with the start of its service and the gap before it."""
    before_s = result.gap_s + (result.service_start_s or 0.0)
    end_s = result.completed_at.timestamp()
    return min(result.started_at.timestamp() - before_s, end_s), end_s


def _taken(result: Result, seconds: float) -> _Sum:
    """Return what one attempt took with the gap before it."""
    found = result.measurement
    bare_s = min(seconds, result.gap_s) if found and not found.launch.warm else 0.0
    taken = _Sum(experiments=1, seconds=seconds, bare_s=bare_s, loaded_s=seconds - bare_s)
    if found is None:
        return taken
    for window in (found, found.prefill) if found.prefill else (found,):
        measured = window.energy_j["total"].source in MEASURED_ENERGY
        taken.work(_counted_j(window), window.energy_window_s, measured=measured)
    window_j, warmup_s = _counted_j(found), found.warmup.seconds if found.warmup else 0.0
    share = warmup_s / found.energy_window_s if found.energy_window_s else 0.0
    taken.work(None if window_j is None else window_j * share, warmup_s, measured=False)
    start = found.launch.cold_start_energy_j
    if start.value is not None and not found.launch.warm:
        starts_s = found.launch.start_s + found.launch.load_s
        taken.work(start.value, starts_s, measured=start.source in MEASURED_ENERGY)
    return taken


def _counted_j(window: Measurement | PrefillReport) -> float | None:
    """Return the energy between the two readings of a window, that of its idle edges included; None: not known."""
    total, edges = window.energy_j["total"], window.edge_idle_j.get("total")
    return None if total.value is None else total.value + ((edges.value if edges else None) or 0.0)
