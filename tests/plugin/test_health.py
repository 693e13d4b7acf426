"""The health of services between experiments, and cold starts, as sessions show them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import completed, events, results_of, rows, summary
from standin.build import Gpu, build_nvml, environment

Campaign = Callable[..., Path]

KILL_AFTER_EACH = """
    import psutil

    def pytest_llem_result(config, result):
        for process in psutil.Process().children():
            if "pytest_llem.worker" in process.cmdline():
                process.kill()
                process.wait()
    """

ORPHAN_ONCE = """
    from pathlib import Path

    def pytest_llem_result(config, result):
        Path("mood").unlink(missing_ok=True)
    """

MOODY = "backends: [abacus]\nshared: {batch_size: [1, 2]}\nbackend_overrides: {abacus: {mood_file: mood}}\n"


def run(pytester: pytest.Pytester, *settings: str, options: tuple[str, ...] = ()) -> pytest.RunResult:
    words = [word for setting in settings for word in ("--campaign-set", setting)]
    return pytester.runpytest_subprocess("--campaign=grid.yaml", *words, *options)


def failure_kinds(root: Path) -> list[str | None]:
    return [result["failure"] and result["failure"]["kind"] for result in results_of(root)]


# --- A service that is lost ---


def test_service_that_dies_in_an_experiment_is_restarted_for_the_next(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """One experiment is lost, the others are measured; the restart is in journal, summary and on the terminal."""
    (pytester.path / "mood").write_text("pass-orphan")
    pytester.makeconftest(ORPHAN_ONCE)
    campaign(grid=MOODY)
    done = run(pytester)
    done.assert_outcomes(passed=3, failed=1)
    assert failure_kinds(pytester.path) == ["lost", None, None, None]
    (restart,) = events(pytester.path, "restart")
    assert (restart["backend"], restart["why"], restart["problem"]) == (
        "abacus",
        "it does not run any more",
        None,
    )
    assert summary(pytester.path)["health"]["restarts"] == {"abacus": 1}
    done.stdout.fnmatch_lines(["health: 2 checks, 1 restart of abacus"])


@pytest.mark.key("health_check.enabled", "health_check.max_restarts", "health_check.restart_on_failure")
@pytest.mark.parametrize(
    ("settings", "measured", "restarts"),
    [
        ([], 4, 3),
        (["health_check.max_restarts=1"], 2, 1),
        (["health_check.restart_on_failure=false"], 1, 0),
        (["health_check.enabled=false", "health_check.max_restarts=0"], 4, 0),
    ],
)
def test_restarts_run_out(
    pytester: pytest.Pytester, campaign: Campaign, settings: list[str], measured: int, restarts: int
) -> None:
    """A worker that dies after each of four experiments is restarted as often as is allowed; then all are unhealthy."""
    pytester.makeconftest(KILL_AFTER_EACH)
    campaign()
    done = run(pytester, *settings)
    done.assert_outcomes(passed=measured, failed=4 - measured)
    assert failure_kinds(pytester.path) == [None] * measured + ["unhealthy"] * (4 - measured)
    assert len(events(pytester.path, "restart")) == restarts
    told = [line for line in done.stdout.lines if "its experiments fail until it is well" in line]
    assert len(told) == (1 if measured < 4 else 0)


def test_unhealthy_service_waits_for_no_gap(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """Experiments that will not run are over at once: two gaps of an hour are not waited for."""
    pytester.makeconftest(KILL_AFTER_EACH)
    path = campaign()
    path.write_text(path.read_text().replace("gap_seconds: 0", "gap_seconds: 3600"))
    run(pytester, "health_check.max_restarts=0").assert_outcomes(passed=1, failed=3)
    assert events(pytester.path, "gap") == []
    assert [result["gap_s"] for result in results_of(pytester.path)] == [0] * 4


@pytest.mark.key("health_check.interval_experiments")
@pytest.mark.parametrize(("interval", "reasons"), [(0, ["cycle"]), (1, ["interval", "cycle", "interval"])])
def test_checks_follow_the_interval(
    pytester: pytest.Pytester, campaign: Campaign, interval: int, reasons: list[str]
) -> None:
    """Each look at a service is an event with its reason, and they are counted."""
    campaign()
    done = run(pytester, f"health_check.interval_experiments={interval}")
    checks = events(pytester.path, "health_check")
    assert [check["reason"] for check in checks] == reasons
    assert {(check["backend"], check["problem"]) for check in checks} == {("abacus", None)}
    assert summary(pytester.path)["health"]["checks"] == len(reasons)
    done.stdout.fnmatch_lines([f"health: {len(reasons)} check*"])


def test_earlier_sessions_are_counted(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """After --lf the summary has the checks and restarts of the whole run; what was unhealthy has a new start."""
    pytester.makeconftest(KILL_AFTER_EACH)
    campaign()
    run(pytester, "health_check.max_restarts=1").assert_outcomes(passed=2, failed=2)
    first = summary(pytester.path)["health"]
    assert first["unhealthy"]["abacus"]["cycle"] == 2
    pytester.makeconftest("")
    run(pytester, options=("--lf",)).assert_outcomes(passed=2, deselected=2)
    second = summary(pytester.path)["health"]
    assert second["restarts"] == first["restarts"] == {"abacus": 1}
    assert second["checks"] == first["checks"]
    assert second["unhealthy"] == {}


# --- Two backends in one slot ---


@pytest.fixture
def pair(pytester: pytest.Pytester, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install two backends, `left` and `right`, whose engines refuse to load beside each other."""
    (pytester.path / "pair-1.0.dist-info").mkdir()
    (pytester.path / "pair-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: pair\nVersion: 1.0\n"
    )
    (pytester.path / "pair-1.0.dist-info/entry_points.txt").write_text(
        "[pytest_llem.backends]\nleft = pair:LEFT\nright = pair:RIGHT\n"
    )
    pytester.makepyfile(
        pair="""
        from dataclasses import replace

        from abacus.spec import SPEC

        LEFT, RIGHT = (
            replace(SPEC, name=name, engine="lonely", preload=("lonely",), packages=()) for name in ("left", "right")
        )
        """,
        lonely="""
        import fcntl

        from abacus import engine

        slot = None

        def load(configuration, model):
            global slot
            slot = open("slot", "w")
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until this process is gone
            return engine.load(configuration, model)
        """,
    )
    monkeypatch.syspath_prepend(str(pytester.path))
    monkeypatch.setenv("PYTHONPATH", f"{pytester.path}:{toy}")


BOTH = """
    backends: [left, right]
    shared: {rods: [1, 2], batch_size: [1, 2]}
    """


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize(
    "settings", [[], ["cold_start.force_cold_start=true"], ["execution.conditioning=true"]]
)
def test_engines_of_two_services_never_live_together(
    pytester: pytest.Pytester, campaign: Campaign, settings: list[str]
) -> None:
    """A slot holds one engine over all services: the old one is gone before another key is loaded."""
    campaign(grid=BOTH)
    run(pytester, *settings).assert_outcomes(passed=16)


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize("mood", ["pass-raise", "load-raise", "pass-orphan"])
def test_failed_engine_does_not_live_on(pytester: pytest.Pytester, campaign: Campaign, mood: str) -> None:
    """After a failure of one backend's engine the slot is free for the other's."""
    (pytester.path / "mood").write_text(mood)
    campaign(grid=f"{textwrap.dedent(BOTH)}backend_overrides: {{left: {{mood_file: mood}}}}\n")
    run(pytester, "health_check.max_restarts=99").assert_outcomes(passed=8, failed=8)
    assert {
        result["configuration"]["backend"] for result in results_of(pytester.path) if result["failure"]
    } == {"left"}


@pytest.mark.usefixtures("pair")
def test_other_services_go_on_beside_an_unhealthy_one(
    pytester: pytest.Pytester, campaign: Campaign, fruitless: Path
) -> None:
    """What does not come up fails with its class; it does not use up the failures in a row that end a session."""
    campaign(grid=BOTH, execution="structure: interleaved")
    done = run(pytester, f"services.left.python={fruitless}", "execution.max_consecutive_failures=2")
    done.assert_outcomes(passed=8, failed=8)
    kinds = failure_kinds(pytester.path)
    assert kinds.count("engine_start") == 1
    assert kinds.count("unhealthy") == 7
    assert len(events(pytester.path, "restart")) == 3
    (line,) = (line for line in done.stdout.lines if line.startswith("health: "))
    assert f"left unhealthy since cycle 1: the worker of left ({fruitless}) ended before it answered" in line


def test_session_with_nothing_but_unhealthy_services_ends(
    pytester: pytest.Pytester, campaign: Campaign, fruitless: Path
) -> None:
    """When no other service is left the failures in a row count, and the rest stays pending."""
    campaign()
    done = run(pytester, f"services.abacus.python={fruitless}", "execution.max_consecutive_failures=2")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(["4 experiments remain: *--lf*", "*2 experiments in a row have failed*"])


# --- GPU memory ---


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that holds the stand-in for libnvidia-ml.so.1."""
    return build_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def fill(pytester: pytest.Pytester, driver: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give the session a GPU with 20 of 1000 MB in use; the function returned changes that after the first result.

    It takes used MB and, as `C:<process>:<MB>`, who uses them.
    """
    memory = pytester.path / "memory"
    memory.write_text("1000 20\n")
    for name, value in environment(driver, pytester.path / "script", [Gpu()]).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NVML_STANDIN_MEMORY", str(memory))

    def fill(use: str) -> None:
        pytester.makeconftest(
            f"""
            from pathlib import Path
            from pytest_llem.executors.health import Patience
            from pytest_llem.runner import Runner

            Runner.__init__.__kwdefaults__["patience"] = Patience(freed_s=0.2)

            def pytest_llem_result(config, result):
                Path({str(memory)!r}).write_text("1000 {use}\\n")
            """
        )

    return fill


@pytest.mark.key("health_check.gpu_memory_threshold_pct")
@pytest.mark.parametrize(("limit_pct", "measured"), [(90, 2), (96, 4)])
def test_gpu_that_others_fill_ends_the_use_of_its_services(
    pytester: pytest.Pytester, campaign: Campaign, fill: Callable[[str], None], limit_pct: int, measured: int
) -> None:
    """A foreign process with 94 % of the memory is found at the next check; no restart helps, and it is named."""
    fill("950 C:4711:940")
    campaign()
    done = run(pytester, f"health_check.gpu_memory_threshold_pct={limit_pct}")
    done.assert_outcomes(passed=measured, failed=4 - measured)
    refused = [result["failure"]["message"] for result in results_of(pytester.path) if result["failure"]]
    assert all("95 % of the memory of GPU-standin-0" in message for message in refused)
    assert all("940 MiB of it by process 4711" in message for message in refused)
    assert events(pytester.path, "memory_not_freed") == []


def test_memory_that_an_ended_engine_keeps_is_told_and_costs_a_restart(
    pytester: pytest.Pytester, campaign: Campaign, fill: Callable[[str], None]
) -> None:
    """Between cold starts memory must be what it was: if not, the service is restarted, and the campaign goes on."""
    fill("320")
    campaign()
    done = run(pytester, "cold_start.force_cold_start=true")
    done.assert_outcomes(passed=4)
    (kept,) = events(pytester.path, "memory_not_freed")
    assert kept["problem"] == "300 MiB more of GPU-standin-0 are in use than before the first engine"
    (restart,) = events(pytester.path, "restart")
    assert restart["why"] == f"the GPU memory of its last engine was not freed: {kept['problem']}"
    assert summary(pytester.path)["health"]["memory_not_freed"] == 1
    done.stdout.fnmatch_lines(
        ["health: *1 restart of abacus, GPU memory of an ended engine not freed 1 time"]
    )


# --- The Docker engine ---


def test_docker_engine_that_is_gone_stops_the_session(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """What is measured is kept, the rest is pending, the exit code is 1, and the message says what to type."""
    pytester.makeconftest(
        KILL_AFTER_EACH
        + """
    from pytest_llem.executors.health import Patience
    from pytest_llem.executors.local import LocalExecutor
    from pytest_llem.runner import Runner

    def unavailable(self):
        lost = [worker for worker in self._workers.values() if not worker.alive]
        return "no Docker engine answers: start it" if lost else None

    LocalExecutor.unavailable = unavailable  # as if the workers were lost with one
    Runner.__init__.__kwdefaults__["patience"] = Patience(host_s=0.2)
    """
    )
    campaign()
    done = run(pytester)
    done.assert_outcomes(passed=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(
        ["*no Docker engine answers: start it; waited 0.2 s for it. The rest is pending: go on with --lf*"]
    )
    assert len(completed(pytester.path)) == len(results_of(pytester.path)) == 1
    (wait,) = events(pytester.path, "unavailable")
    assert (wait["is_back"], wait["waited_s"] >= 0.2) == (False, True)


# --- Cold starts ---


@pytest.mark.key("cold_start.restart_container")
@pytest.mark.parametrize(("wanted", "renewals"), [("false", 0), ("true", 3)])
def test_every_cold_start_has_a_new_service(
    pytester: pytest.Pytester, campaign: Campaign, wanted: str, renewals: int
) -> None:
    """The first service is new; with restart_container each further experiment gets one, and none is a restart."""
    campaign()
    run(
        pytester, f"cold_start.restart_container={wanted}", "cold_start.force_cold_start=true"
    ).assert_outcomes(passed=4)
    assert len(events(pytester.path, "renewed")) == renewals
    assert events(pytester.path, "restart") == []
    starts = [result["service_start_s"] for result in results_of(pytester.path)]
    assert [start is not None for start in starts] == [True] + [bool(renewals)] * 3
    assert [row["service_start_s"] != "" for row in rows(pytester.path)] == [
        start is not None for start in starts
    ]


def test_conditioning_pays_for_the_start_of_a_service(pytester: pytest.Pytester, campaign: Campaign) -> None:
    """With a conditioning pass the first experiment finds its service up, unless each of them gets a new one."""
    campaign()
    run(pytester, "execution.conditioning=true", options=("-k", "c1"))
    assert [result["service_start_s"] for result in results_of(pytester.path)] == [None, None]
    (conditioning,) = events(pytester.path, "conditioning")
    assert conditioning["service_start_s"] > 0


def test_a_new_container_without_a_cold_start_is_a_note(
    pytester: pytest.Pytester, campaign: Campaign
) -> None:
    """restart_container alone does nothing, and the header says so."""
    campaign()
    done = run(pytester, "cold_start.restart_container=true")
    done.stdout.fnmatch_lines(
        ["note: cold_start.restart_container has no effect without cold_start.force_cold_start"]
    )
    assert events(pytester.path, "renewed") == []


def test_cold_start_has_time_and_energy(
    pytester: pytest.Pytester, campaign: Campaign, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A cold experiment has both, of start and load together, with the source of the energy; a warm one has neither."""
    monkeypatch.setenv("LLEM_POWERCAP_ROOT", str(tmp_path / "no-rapl"))
    campaign(
        grid="backends: [abacus]\nshared: {batch_size: [1, 2]}\nbackend_overrides: {abacus: {load_s: 0.2}}\n"
    )
    run(pytester, options=("-k", "c1"))
    cold, warm = (result["measurement"] for result in results_of(pytester.path))
    launch = cold["launch"]
    metrics = cold["metrics"]
    assert metrics["cold_start_time_s"]["value"] == launch["start_s"] + launch["load_s"]
    assert metrics["cold_start_energy_j"] == launch["cold_start_energy_j"]
    assert {launch[f"{part}_energy_j"]["source"] for part in ("start", "load", "cold_start")} <= {
        "model",
        "unavailable",
    }
    assert not {"cold_start_time_s", "cold_start_energy_j", "model_load_energy_j"} & set(warm["metrics"])
