"""Idle power: of the bare machine before an engine is loaded, and with a loaded engine that waits.

A CUDA context alone adds 26-66 W to a GPU's idle power, loaded weights less than 0.5 W (arXiv 2605.23918). So there are
two idle powers, each measured once and then believed for `baseline.cache_ttl_sec`: the bare one once a machine,
the loaded one once a backend. A bare one that is too old is measured anew before the next launch; until then none
is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from pytest_llem.meters.choose import Meters
from pytest_llem.records import Baseline, Idle, IdleKind
from pytest_llem.worker.machine import boot_id

SETTLING_S = 10.0
"""A device needs some seconds to fall back to its idle clocks."""

SETTLING_SHARE = 1 / 3
"""A measurement that is asked to be shorter than 30 s settles for so much of its time only."""

PHASES: dict[IdleKind, str] = {"bare": "bare idle", "loaded": "loaded idle"}

SHOWN_EVERY_S = 10.0
"""So often a measurement says that it goes on."""


class IdlePowers:
    """The idle powers that one experiment is counted with.

    Args:
        meters: that measure them; without an instrument among them nothing is waited for.
        wanted: the experiment's `baseline`.
        known: measured before, here or elsewhere; those of other machines and other devices are left out, and
            those that are too old when the experiment begins.
        on_phase: is told what goes on.

    Attributes:
        measured: those that were measured for this experiment.
    """

    def __init__(
        self, meters: Meters, wanted: Baseline, known: Iterable[Idle], on_phase: Callable[[str], None]
    ) -> None:
        self._meters = meters
        self._wanted = wanted
        self._on_phase = on_phase
        self._domains = meters.domains()
        self._boot = boot_id()
        ours = [idle for idle in known if idle.boot == self._boot and idle.power_w.keys() == self._domains]
        latest = {idle.kind: idle for idle in sorted(ours, key=lambda idle: idle.measured_at)}
        self._known = {kind: idle for kind, idle in latest.items() if _age_s(idle) <= wanted.cache_ttl_sec}
        self._expired = latest.keys() - self._known.keys()
        self.measured: list[Idle] = []

    @property
    def known(self) -> dict[IdleKind, Idle]:
        """The idle powers as far as they are known; none where they are not wanted."""
        return dict(self._known) if self._wanted.enabled else {}

    def ensure(self, kind: IdleKind, wait: Callable[[float], object]) -> None:
        """Measure an idle power that is wanted and is not known.

        Args:
            kind: which; the machine must be in that state.
            wait: lets time pass, and may raise to end it early.
        """
        if not self._wanted.enabled or not self._meters.have_instruments or kind in self._known:
            return
        duration_s = self._wanted.duration_sec
        self._pass(kind, min(SETTLING_S, SETTLING_SHARE * duration_s), wait)
        at = datetime.now(UTC)
        power_w = self._meters.idle_power_w(duration_s, lambda seconds: self._pass(kind, seconds, wait))
        found = Idle(kind=kind, measured_at=at, seconds=duration_s, power_w=power_w, boot=self._boot)
        self._known[kind] = found
        self.measured.append(found)

    def _pass(self, kind: IdleKind, seconds: float, wait: Callable[[float], object]) -> None:
        while seconds > 0:
            self._on_phase(PHASES[kind])
            wait(min(seconds, SHOWN_EVERY_S))
            seconds -= SHOWN_EVERY_S

    def why_unknown(self, kind: IdleKind) -> str:
        """Return why an idle power is not known."""
        if not self._wanted.enabled:
            return "the idle power was not measured: baseline.enabled is false"
        if not self._meters.have_instruments:
            return "the idle power is not known: no instrument measures energy here"
        if kind in self._expired:
            ttl = f"baseline.cache_ttl_sec: {self._wanted.cache_ttl_sec:g}"
            return f"the power of {PHASES[kind]} is too old ({ttl}), and measured anew before the next launch"
        return f"the power of {PHASES[kind]} was not measured"


def _age_s(idle: Idle) -> float:
    return (datetime.now(UTC) - idle.measured_at).total_seconds()
