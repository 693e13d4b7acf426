"""Services that die, hang, do not come up, or whose Docker engine is gone: real workers of the toy backend."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.schema import HealthCheck, Service
from pytest_llem.executors import services
from pytest_llem.executors.gpus import GpuMemory
from pytest_llem.executors.health import Health, HostGone, Patience
from pytest_llem.executors.local import LocalExecutor

GIB = 1 << 30
LOST = "it does not run any more"
NO_DOCKER = "no Docker engine answers: start it"


class Log:
    """Takes what health tells: events, and lines for the terminal."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.lines: list[str] = []
        self.waits: list[str] = []

    def event(self, event: str, /, **facts: Any) -> None:
        self.events.append((event, facts))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [facts for event, facts in self.events if event == name]

    def names(self) -> list[str]:
        return [event for event, _ in self.events]

    def waiting(self, what: str, left_s: float) -> None:
        self.waits.append(what if left_s else "")

    def phase(self, what: str, phase: str) -> None:
        pass

    def note(self, line: str) -> None:
        self.lines.append(line)


class Bench:
    """A local executor with the toy backend, and its health; `docker` scripts what becomes unavailable."""

    def __init__(self, folder: Path, spec: BackendSpec) -> None:
        self.settings: dict[str, Service] = {}
        self.executor = Scripted({spec.name: spec}, self.settings, start_timeout_s=60, rootdir=folder)
        self.memory: list[Sequence[GpuMemory]] = []
        self.log = Log()

    def health(self, *, host_s: float = 0.0, **wanted: Any) -> Health:
        return Health(
            self.executor,
            HealthCheck(**wanted),
            memory=self._read,
            observer=self.log,
            note=self.log.event,
            patience=Patience(freed_s=0.0, host_s=host_s),
        )

    def _read(self) -> Sequence[GpuMemory]:
        """Return the first of the scripted readings; the last one stays."""
        return self.memory.pop(0) if len(self.memory) > 1 else self.memory[0] if self.memory else ()

    @property
    def pid(self) -> int:
        return self.executor.service("abacus").pid

    def kill(self) -> None:
        """Kill the worker, as seen from its parent once it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        while self.executor.active():
            pass


class Scripted(LocalExecutor):
    """Child processes that pretend to need a Docker engine."""

    docker_answers: tuple[str | None, ...] = ()

    def unavailable(self) -> str | None:
        if not self.docker_answers:
            return None
        answer, *rest = self.docker_answers
        self.docker_answers = tuple(rest) or (answer,)
        return answer


@pytest.fixture
def bench(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.syspath_prepend(str(toy))
    from abacus.spec import SPEC

    made = Bench(tmp_path, SPEC)
    yield made
    made.executor.close()


def test_service_is_started_once_and_its_start_is_charged_once(bench: Bench) -> None:
    """The experiment before which a service came up is told how long that took; the next one is not."""
    health = bench.health()
    assert health.admit("abacus") is None
    took_s = health.take_start_s("abacus")
    assert took_s is not None
    assert took_s == bench.log.named("service_started")[0]["took_s"]
    assert health.admit("abacus") is None
    assert health.take_start_s("abacus") is None
    assert bench.log.names() == ["service_started"]


def test_service_that_was_lost_is_restarted_before_it_is_used(bench: Bench) -> None:
    """A worker that died between experiments is replaced, and that is an event with its reason."""
    health = bench.health()
    health.admit("abacus")
    before = bench.pid
    bench.kill()
    assert health.admit("abacus") is None
    assert bench.pid != before
    assert [event["why"] for event in bench.log.named("restart")] == [LOST]
    assert bench.log.names() == ["service_started", "restart", "health_check"]
    assert bench.log.lines == []


def test_without_health_checks_a_lost_service_is_started_again_and_not_counted(bench: Bench) -> None:
    """`health_check.enabled: false` spends no restarts, so none can run out."""
    health = bench.health(enabled=False, max_restarts=0)
    health.admit("abacus")
    bench.kill()
    assert health.admit("abacus") is None
    assert bench.log.names() == ["service_started", "service_started"]


@pytest.mark.parametrize("wanted", [{"max_restarts": 0}, {"restart_on_failure": False}])
def test_service_that_must_not_be_restarted_is_given_up(bench: Bench, wanted: dict[str, Any]) -> None:
    """Its experiments are refused at once with class and reason, and it is said once."""
    health = bench.health(**wanted)
    health.admit("abacus")
    bench.kill()
    refusals = [health.admit("abacus") for _ in range(3)]
    assert [refusal and (refusal.kind, refusal.message) for refusal in refusals] == [
        ("unhealthy", f"the service of abacus is unhealthy: {LOST}")
    ] * 3
    assert len(bench.log.named("unhealthy")) == len(bench.log.lines) == 1
    assert bench.log.named("restart") == []


def test_restarts_are_counted_over_the_session(bench: Bench) -> None:
    """Two deaths with one restart allowed: the second is the last."""
    health = bench.health(max_restarts=1)
    health.admit("abacus")
    bench.kill()
    assert health.admit("abacus") is None
    bench.kill()
    refusal = health.admit("abacus")
    assert refusal is not None
    assert refusal.message.endswith(f"{LOST} (after 1 restart)")
    assert len(bench.log.named("restart")) == 1


def test_service_that_does_not_come_up_again_is_given_up_with_what_it_said(bench: Bench) -> None:
    """All restarts are tried at once, and the reason is that of the last one."""
    health = bench.health(max_restarts=2)
    health.admit("abacus")
    bench.kill()
    bench.settings["abacus"] = Service(python="/bin/false")
    refusal = health.admit("abacus")
    assert refusal is not None
    assert refusal.kind == "unhealthy"
    assert "(/bin/false) ended before it answered (after 2 restarts)" in refusal.message
    assert [event["problem"] is None for event in bench.log.named("restart")] == [False, False]


def test_first_start_that_fails_is_no_matter_of_health_yet(bench: Bench) -> None:
    """The first experiment fails with class engine_start; before the second one restarts are tried."""
    bench.settings["abacus"] = Service(python="/bin/false")
    health = bench.health(max_restarts=1)
    kinds = [refusal.kind for _ in range(3) if (refusal := health.admit("abacus"))]
    assert kinds == ["engine_start", "unhealthy", "unhealthy"]
    assert len(bench.log.named("restart")) == 1


def test_service_that_hangs_is_found_and_used_again_when_it_answers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is stopped does not answer and is given up; once it goes on it is used again, as it was."""
    monkeypatch.setattr(services, "CHECK_WITHIN_S", 0.3)
    health = bench.health(max_restarts=0)
    health.admit("abacus")
    pid = bench.pid
    os.kill(pid, signal.SIGSTOP)
    health.check("cycle")
    assert health.given_up == {"abacus": "its worker does not answer"}
    assert health.admit("abacus") is not None
    monkeypatch.undo()
    os.kill(pid, signal.SIGCONT)
    assert health.admit("abacus") is None
    assert bench.pid == pid
    assert bench.log.names()[-1] == "recovered"
    assert bench.log.lines[1:] == ["the service of abacus is healthy again and is used again"]


def test_hanging_service_is_restarted_by_a_check(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check does what `admit` cannot see: it asks the worker."""
    monkeypatch.setattr(services, "CHECK_WITHIN_S", 0.3)
    monkeypatch.setattr("pytest_llem.executors.local.STOP_GRACE_S", 0.1)
    health = bench.health()
    health.admit("abacus")
    pid = bench.pid
    os.kill(pid, signal.SIGSTOP)
    health.check("interval")
    assert bench.pid != pid
    looks = [(event["reason"], event["problem"]) for event in bench.log.named("health_check")]
    assert looks == [("interval", "its worker does not answer"), ("restarted", None)]


def test_services_that_were_never_used_are_not_looked_at(bench: Bench) -> None:
    """Nothing is started for a check."""
    health = bench.health()
    health.check("cycle")
    assert bench.log.events == []
    assert bench.executor.active() == []


def test_new_service_replaces_one_that_was_used_and_spends_no_restart(bench: Bench) -> None:
    """A cold start's new service is no restart; one that has served nothing yet is new enough."""
    health = bench.health(max_restarts=0)
    health.admit("abacus")
    fresh = bench.pid
    health.renew("abacus")
    assert bench.pid == fresh
    health.take_start_s("abacus")
    health.renew("abacus")
    assert bench.pid != fresh
    assert bench.log.named("renewed")[0]["took_s"] == health.take_start_s("abacus")
    assert health.given_up == {}


# --- The Docker engine ---


def test_engine_that_comes_back_in_time_is_waited_for(bench: Bench) -> None:
    """The wait is shown, its beginning has a line, and the journal has its reason and length."""
    bench.executor.docker_answers = (NO_DOCKER, NO_DOCKER, None)
    assert bench.health(host_s=60.0).admit("abacus") is None
    assert bench.log.waits == [NO_DOCKER, NO_DOCKER, ""]
    assert bench.log.lines == [f"{NO_DOCKER}; waiting for it, 60 s at most"]
    (event,) = bench.log.named("unavailable")
    assert (event["problem"], event["is_back"]) == (NO_DOCKER, True)
    assert event["waited_s"] > 0


def test_engine_that_hangs_beside_a_service_is_waited_for(bench: Bench) -> None:
    """A service that runs is not asked while its engine does not answer, and is the same one afterwards."""
    health = bench.health(host_s=60.0)
    health.admit("abacus")
    before = bench.pid
    bench.executor.docker_answers = (NO_DOCKER, None)
    assert health.admit("abacus") is None
    assert bench.pid == before
    assert bench.log.names() == ["service_started", "unavailable"]


def test_engine_that_stays_away_ends_the_session(bench: Bench) -> None:
    """After the patience nothing more is tried, and the message says what to type."""
    bench.executor.docker_answers = (NO_DOCKER,)
    with pytest.raises(
        HostGone, match=r"start it; waited 0\.1 s for it\. The rest is pending: go on with --lf"
    ):
        bench.health(host_s=0.1).admit("abacus")
    assert [event["is_back"] for event in bench.log.named("unavailable")] == [False]
    assert bench.executor.active() == []


def test_wait_for_an_engine_can_be_interrupted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the wait, and the time lost so far is noted."""
    bench.executor.docker_answers = (NO_DOCKER,)
    monkeypatch.setattr(bench.log, "waiting", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        bench.health(host_s=60.0).admit("abacus")
    assert len(bench.log.named("unavailable")) == 1


def _interrupt(_what: str, left_s: float) -> None:
    if left_s:
        raise KeyboardInterrupt


def test_service_is_not_given_up_for_an_engine_that_is_gone(bench: Bench) -> None:
    """Without Docker there is nothing to restart: that is waited for, and no service is blamed."""
    health = bench.health(max_restarts=0)
    health.admit("abacus")
    bench.kill()
    bench.executor.docker_answers = (NO_DOCKER,)
    with pytest.raises(HostGone):
        health.admit("abacus")
    assert health.given_up == {}


# --- GPU memory ---


def gpu(used_gib: float, by_pid: dict[int, int | None] | None = None) -> list[GpuMemory]:
    return [GpuMemory("GPU-1", 80 * GIB, int(used_gib * GIB), by_pid or {})]


@pytest.mark.key("health_check.gpu_memory_threshold_pct")
@pytest.mark.parametrize(("limit_pct", "is_healthy"), [(90, False), (95, True)])
def test_gpu_that_others_fill_is_unhealthy(bench: Bench, limit_pct: float, is_healthy: bool) -> None:
    """74 of 80 GiB in use without an engine of ours are above 90 %, and the refusal says so in numbers."""
    bench.memory = [gpu(1), gpu(74, {4711: 70 * GIB})]
    health = bench.health(max_restarts=0, gpu_memory_threshold_pct=limit_pct)
    health.admit("abacus")
    health.check("cycle")
    refusal = health.admit("abacus")
    assert (refusal is None) is is_healthy
    if refusal:
        assert "92 % of the memory of GPU-1 is used by others than our engine" in refusal.message
        assert "71680 MiB of it by process 4711" in refusal.message


def test_gpu_is_not_judged_while_a_service_does_not_say_which_engine_it_has(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full memory may be that of an engine whose worker does not answer now: nobody else is blamed."""
    monkeypatch.setattr(services, "CHECK_WITHIN_S", 0.3)
    monkeypatch.setattr(bench.executor, "check", lambda _: None)
    bench.memory = [gpu(1), gpu(74, {4711: 70 * GIB})]
    health = bench.health(max_restarts=0)
    health.admit("abacus")
    pid = bench.pid
    os.kill(pid, signal.SIGSTOP)
    health.check("cycle")
    os.kill(pid, signal.SIGCONT)
    assert health.given_up == {}


def test_memory_of_an_ended_engine_that_stays_costs_a_restart(bench: Bench) -> None:
    """It is told as an event; what even the restart does not free is not ours, and is not told again."""
    bench.memory = [gpu(1), gpu(9)]
    health = bench.health()
    health.admit("abacus")
    before = bench.pid
    health.end_launch("abacus")
    assert bench.pid != before
    (event,) = bench.log.named("memory_not_freed")
    assert event["problem"] == "8192 MiB more of GPU-1 are in use than before the first engine"
    assert bench.log.named("restart")[0]["why"].startswith("the GPU memory of its last engine was not freed")
    health.end_launch("abacus")
    assert len(bench.log.named("memory_not_freed")) == 1


def test_without_health_checks_memory_that_stays_is_told_only(bench: Bench) -> None:
    """The event is there, the service is left alone."""
    bench.memory = [gpu(1), gpu(9)]
    health = bench.health(enabled=False)
    health.admit("abacus")
    before = bench.pid
    health.end_launch("abacus")
    assert bench.log.names() == ["service_started", "memory_not_freed"]
    assert bench.pid == before


def test_without_a_gpu_nothing_is_verified(bench: Bench) -> None:
    """A slot on the CPU has no memory that an engine could keep."""
    health = bench.health()
    health.admit("abacus")
    health.end_launch("abacus")
    assert bench.log.names() == ["service_started"]
