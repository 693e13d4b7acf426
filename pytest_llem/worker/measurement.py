"""One experiment, server side: launch if needed, loaded idle, warm-up, meters around the window, the measurement.

The engine says when it begins and ends; the server reads the meters, so that no instrument runs in the process
that is measured.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from pytest_llem.meters.choose import Meters, Readings, open_meters
from pytest_llem.meters.sums import without
from pytest_llem.meters.trace import Trace
from pytest_llem.meters.window import judge
from pytest_llem.records import Idle, Launch, Quantity
from pytest_llem.worker.assembly import assemble
from pytest_llem.worker.energy import Metered
from pytest_llem.worker.engine_process import Edge, Job, LaunchOrder, Served
from pytest_llem.worker.forking import Choice
from pytest_llem.worker.idle import IdlePowers
from pytest_llem.worker.launch import EngineLaunch, ExperimentEnded, Patience, rest
from pytest_llem.worker.protocol import Answer, Order
from pytest_llem.worker.tracing import compressed, tracing

LOG_TAIL_LINES = 20

OnPhase = Callable[[str], None]


class Asker(NamedTuple):
    """Who wants an order carried out: a socket that closes when it is gone, and how it is told of phases."""

    client: socket.socket
    on_phase: OnPhase


class Bench:
    """Carries out orders one at a time and holds the one live launch.

    Args:
        start: how engine processes come to be.
        folder: a private folder for the launches' logs.
    """

    def __init__(self, start: Choice, folder: Path) -> None:
        self._start = start
        self._folder = folder
        self._launch: EngineLaunch | None = None
        self._loaded: Launch | None = None
        self._launches = 0
        self._untold_builds: dict[str, Launch] = {}
        self.meters = Meters(open_meters(devices=visible_devices(), engine_pids=self._engine_pid))
        self._metered = self.meters
        self._at_order = self.meters.read()

    def carry_out(self, order: Order, client: socket.socket, on_phase: OnPhase) -> Answer:
        """Return the measurement, or the failure that ended the experiment; a failed launch is not used again."""
        self._metered = self.meters.of(order.devices).seeing(order.model_runs)
        asker = Asker(client, on_phase)
        idle = IdlePowers(self._metered, order.configuration.baseline, _idle_known(order), on_phase)
        log_offset = 0
        try:
            launch = self._live_launch(order, idle, asker)
            log_offset = launch.log_size() if launch.served else 0
            answer = self._measure(order, launch, idle, asker)
        except ExperimentEnded as ended:
            log = self._launch.log_since(log_offset) if self._launch else ""
            self.end_launch(grace_s=0)
            tail = "\n".join(log.splitlines()[-LOG_TAIL_LINES:])
            return Answer(failure=ended.failure(tail), idle=tuple(idle.measured), log=log)
        except BaseException:
            self.end_launch(grace_s=0)
            raise
        log = launch.log_since(log_offset)
        return answer.model_copy(update={"idle": tuple(idle.measured), "log": log})

    def end_launch(self, *, grace_s: float = 5.0) -> None:
        """End the live engine process, if any, and return when it and its memory are gone."""
        launch, self._launch, self._loaded = self._launch, None, None
        if launch is not None:
            launch.end(grace_s=grace_s)

    def close(self) -> None:
        """End the launch and release the meters."""
        self.end_launch(grace_s=0)
        self.meters.close()

    def engine_pids(self) -> list[int]:
        """Return the process ids of the live engine and its descendants."""
        launch = self._launch
        return launch.pids() if launch is not None and launch.alive else []

    def _engine_pid(self) -> Iterable[int]:
        launch = self._launch
        return [launch.pid] if launch is not None else []

    def _live_launch(self, order: Order, idle: IdlePowers, asker: Asker) -> EngineLaunch:
        """Return the launch that the order asks for; another one is ended first: a slot holds one engine.

        Between the two the machine is bare.
        """
        launch = self._launch
        if launch is not None and launch.alive and launch.name == order.launch:
            return launch
        self.end_launch()
        if order.model_runs == "in_engine":
            idle.ensure("bare", lambda seconds: rest(seconds, asker.client))
        self._launches += 1
        log_path = self._folder / f"launch-{self._launches}.log"
        what = LaunchOrder(
            order.engine, self._model(order), order.configuration, str(log_path), order.devices
        )
        self._at_order = self._metered.read()
        self._launch = EngineLaunch(order.launch, order.engine_key, what, self._start)
        return self._launch

    def _model(self, order: Order) -> str:
        """Return the model's folder or hub id; a described architecture gets a folder here."""
        if order.model_files is None:
            return order.model
        folder = self._folder / "model"
        shutil.rmtree(folder, ignore_errors=True)  # that of the launch before
        folder.mkdir()
        for name, text in order.model_files.items():
            (folder / Path(name).name).write_text(text, encoding="utf-8")
        return str(folder)

    def _measure(self, order: Order, launch: EngineLaunch, idle: IdlePowers, asker: Asker) -> Answer:
        cold = launch.served == 0
        launch.served += 1
        if cold:
            asker.on_phase("loading")
            self._loaded = self._with_its_build(self._load(order, launch, asker), told=order.measured)
        assert self._loaded is not None
        loaded = self._loaded.model_copy(update={"warm": not cold})
        if order.measured:
            idle.ensure("loaded", lambda seconds: launch.rest(seconds, asker.client))
        launch.send(
            Job(
                configuration=order.configuration,
                prompts=order.prompts,
                warmup=order.warmup,
                window_s=order.window_s,
                window_passes=order.window_passes,
                measured=order.measured,
            )
        )
        if not order.measured:
            launch.expect("served", _patience(order), asker.client)
            return Answer()
        wanted = order.configuration.timeseries
        with tracing(self._metered, wanted, self._folder) as trace:
            served, windows = self._windows(order, launch, idle, trace, asker)
            return Answer(
                measurement=assemble(order, served, loaded, windows["window"], windows.get("prefill")),
                trace=compressed(trace) if trace and wanted.save else None,
            )

    def _load(self, order: Order, launch: EngineLaunch, asker: Asker) -> Launch:
        """Wait for the loaded model; what was compiled for it is no part of the load, nor of the cold start."""
        patience = Patience(launch.ordered_s + order.timeouts.start_s, order.timeouts.start_s)
        started = launch.expect("started", patience, asker.client)
        at_start = self._metered.read()
        built = launch.expect("built", patience, asker.client, asker.on_phase)
        at_built = self._metered.read()
        if built.body is not None:
            asker.on_phase("loading")
        loaded = launch.expect("loaded", patience, asker.client)
        at_end = self._metered.read()
        start_j, load_j, cold_start_j = self._energies(self._at_order, at_start, at_end)
        plain = Launch(
            id=launch.name,
            engine_key=launch.engine_key,
            warm=False,
            start_method=launch.start_method,
            start_s=started.at_s - launch.ordered_s,
            load_s=loaded.at_s - started.at_s,
            start_energy_j=start_j,
            load_energy_j=load_j,
            cold_start_energy_j=cold_start_j,
            engine_cache=built.body,
        )
        if built.body != "miss":
            return plain
        build_j, load_j, _ = self._energies(at_start, at_built, at_end)
        apart = {
            "build_s": built.at_s - started.at_s,
            "build_energy_j": build_j,
            "load_s": loaded.at_s - built.at_s,
            "load_energy_j": load_j,
            "cold_start_energy_j": without(cold_start_j, build_j),
        }
        return plain.model_copy(update=apart)

    def _with_its_build(self, loaded: Launch, *, told: bool) -> Launch:
        """Keep the build of a launch that nothing is told of, and give it to the next launch of its key.

        So the engine of the first experiment, which is built for the conditioning, is not without a build.
        """
        untold = self._untold_builds.pop(loaded.engine_key, None)
        if not told and loaded.engine_cache == "miss":
            self._untold_builds[loaded.engine_key] = loaded
        if untold is None or loaded.engine_cache != "hit":
            return loaded
        its_build = ("engine_cache", "build_s", "build_energy_j")
        return loaded.model_copy(update={name: getattr(untold, name) for name in its_build})

    def _energies(self, *edges: Readings) -> tuple[Quantity, Quantity, Quantity]:
        """Return the energy from the first of three edges to the second, from there to the third, and in both."""
        begin, middle, end = edges
        pairs = ((begin, middle), (middle, end), (begin, end))
        first, second, both = (self._metered.between(*pair)["total"] for pair in pairs)
        return first, second, both

    def _windows(
        self, order: Order, launch: EngineLaunch, idle: IdlePowers, trace: Trace | None, asker: Asker
    ) -> tuple[Served, dict[str, Metered]]:
        """Have the windows served that an order asks for, and read the meters around each."""
        patience = _patience(order)
        names = ("window", "prefill") if order.configuration.prefill.enabled else ("window",)
        edges = {name: self._edges(name, launch, patience, asker) for name in names}
        served: Served = launch.expect("served", patience, asker.client).body
        if trace:
            trace.stop()
        return served, {
            name: Metered(*pair, judge(self._metered, *pair, trace), traced=trace is not None, idle=idle)
            for name, pair in edges.items()
        }

    def _edges(
        self, name: str, launch: EngineLaunch, patience: Patience, asker: Asker
    ) -> tuple[Readings, Readings]:
        """Wait for the end of the warm-up, have a window served, and return the readings around it."""
        launch.expect("ready", patience, asker.client, asker.on_phase)
        asker.on_phase(name)
        begin = self._edge(launch)
        launch.expect("closing", patience, asker.client)
        return begin, self._edge(launch)

    def _edge(self, launch: EngineLaunch) -> Readings:
        """Read the meters and tell the engine when that was."""
        readings = self._metered.read(at_tick=True)
        launch.send(Edge(readings[0].at_s))
        return readings


def _idle_known(order: Order) -> list[Idle]:
    """Return the idle powers that hold for an order: a model outside the engine is loaded without it too."""
    return [idle for idle in order.idle if order.model_runs == "in_engine" or idle.kind == "loaded"]


def _patience(order: Order) -> Patience:
    return Patience(time.monotonic() + order.timeouts.run_s, order.timeouts.silence_s)


def visible_devices() -> list[str] | None:
    """Return the GPUs that the engine may use (`CUDA_VISIBLE_DEVICES`); None: all of the machine's.

    The others may be busy with someone else's work, and their energy is not ours.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if named is None else [name.strip() for name in named.split(",") if name.strip()]
