"""One experiment, server side: launch if needed, warm-up, meters around the window, the measurement.

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

from pytest_llem.meters.choose import Meters, open_meters
from pytest_llem.records import Launch, Measurement, Quantity
from pytest_llem.worker import flops, metrics
from pytest_llem.worker.engine_process import GO, Job, LaunchOrder, Served
from pytest_llem.worker.forking import Choice
from pytest_llem.worker.launch import EngineLaunch, ExperimentEnded, Patience
from pytest_llem.worker.protocol import Answer, Order

LOG_TAIL_LINES = 20

OnPhase = Callable[[str], None]


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
        self.meters = Meters(open_meters(devices=visible_devices(), engine_pids=self._engine_pid))
        self._at_order = self.meters.read()

    def carry_out(self, order: Order, client: socket.socket, on_phase: OnPhase) -> Answer:
        """Return the measurement, or the failure that ended the experiment; a failed launch is not used again."""
        log_offset = 0
        try:
            launch = self._live_launch(order)
            log_offset = launch.log_size() if launch.served else 0
            measurement = self._measure(order, launch, client, on_phase)
        except ExperimentEnded as ended:
            log = self._launch.log_since(log_offset) if self._launch else ""
            self.end_launch(grace_s=0)
            tail = "\n".join(log.splitlines()[-LOG_TAIL_LINES:])
            return Answer(failure=ended.failure(tail), log=log)
        except BaseException:
            self.end_launch(grace_s=0)
            raise
        return Answer(measurement=measurement, log=launch.log_since(log_offset))

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

    def _live_launch(self, order: Order) -> EngineLaunch:
        """Return the launch that the order asks for; another one is ended first: a slot holds one engine."""
        launch = self._launch
        if launch is not None and launch.alive and launch.name == order.launch:
            return launch
        self.end_launch()
        self._launches += 1
        log_path = self._folder / f"launch-{self._launches}.log"
        what = LaunchOrder(order.engine, self._model(order), order.configuration, str(log_path))
        self._at_order = self.meters.read()
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

    def _measure(
        self, order: Order, launch: EngineLaunch, client: socket.socket, on_phase: OnPhase
    ) -> Measurement | None:
        cold = launch.served == 0
        launch.served += 1
        if cold:
            on_phase("loading")
            self._loaded = self._load(order, launch, client)
        assert self._loaded is not None
        loaded = self._loaded.model_copy(update={"warm": not cold})
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
        return self._window(order, launch, client, on_phase, loaded)

    def _load(self, order: Order, launch: EngineLaunch, client: socket.socket) -> Launch:
        patience = Patience(launch.ordered_s + order.timeouts.start_s, order.timeouts.start_s)
        started = launch.expect("started", patience, client)
        at_start = self.meters.read()
        loaded = launch.expect("loaded", patience, client)
        at_end = self.meters.read()
        return Launch(
            id=launch.name,
            engine_key=launch.engine_key,
            warm=False,
            start_method=launch.start_method,
            start_s=started.at_s - launch.ordered_s,
            load_s=loaded.at_s - started.at_s,
            start_energy_j=self.meters.between(self._at_order, at_start)["total"],
            load_energy_j=self.meters.between(at_start, at_end)["total"],
            cold_start_energy_j=self.meters.between(self._at_order, at_end)["total"],
        )

    def _window(
        self, order: Order, launch: EngineLaunch, client: socket.socket, on_phase: OnPhase, loaded: Launch
    ) -> Measurement | None:
        patience = Patience(time.monotonic() + order.timeouts.run_s, order.timeouts.silence_s)
        if not order.measured:
            launch.expect("served", patience, client)
            return None
        launch.expect("ready", patience, client, on_phase)
        on_phase("window")
        before = self.meters.read(at_tick=True)
        launch.send(GO)
        served: Served = launch.expect("served", patience, client).body
        after = self.meters.read(at_tick=True)
        energy_j = self.meters.between(before, after)
        return assemble(order, served, loaded, energy_j, energy_window_s=after[0].at_s - before[0].at_s)


def visible_devices() -> list[str] | None:
    """Return the GPUs that the engine may use (`CUDA_VISIBLE_DEVICES`); None: all of the machine's.

    The others may be busy with someone else's work, and their energy is not ours.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if named is None else [name.strip() for name in named.split(",") if name.strip()]


def assemble(
    order: Order, served: Served, launch: Launch, energy_j: dict[str, Quantity], *, energy_window_s: float
) -> Measurement:
    """Make the measurement of what was served and read: energy, tokens and time of one window."""
    requests = [request for report in served.passes for request in report.requests]
    begin_s, end_s = metrics.window_of(served.passes)
    window_s = end_s - begin_s
    preemptions = [report.preemptions for report in served.passes if report.preemptions is not None]
    return Measurement(
        launch=launch,
        warmup=served.warmup,
        window_s=window_s,
        energy_window_s=energy_window_s,
        passes=len(served.passes),
        requests=len(requests),
        prompt_tokens=sum(r.prompt_tokens for r in requests),
        cached_tokens=sum(r.cached_tokens for r in requests),
        padding_tokens=sum(report.padding_tokens for report in served.passes),
        output_tokens=sum(r.output_tokens for r in requests),
        mean_running_batch=metrics.mean_running_batch(served.passes),
        preemptions=sum(preemptions) if preemptions else None,
        prompt_sha256=served.prompt_sha256,
        energy_j=energy_j,
        metrics=metrics.merged(
            metrics.energy(energy_j["total"], requests, energy_window_s),
            metrics.throughput(requests, window_s),
            metrics.latency(requests),
            _of_launch(launch),
            flops.of_window(order, requests),
            {
                "memory_peak_bytes": metrics.known(
                    "memory_peak_bytes", served.memory_peak_bytes, "system", "the engine does not report it"
                )
            },
        ),
        effective=served.effective,
        flags=_flags(served),
    )


def _of_launch(launch: Launch) -> dict[str, Quantity]:
    """Return load and cold-start metrics; a warm experiment paid for neither."""
    if launch.warm:
        return {}
    cold_start_s = launch.start_s + launch.load_s
    return {
        "model_load_time_s": metrics.known("model_load_time_s", launch.load_s, "clock", ""),
        "model_load_energy_j": launch.load_energy_j,
        "cold_start_time_s": metrics.known("cold_start_time_s", cold_start_s, "clock", ""),
        "cold_start_energy_j": launch.cold_start_energy_j,
    }


def _flags(served: Served) -> tuple[str, ...]:
    not_converged = served.warmup is not None and served.warmup.converged is False
    return ("warmup_not_converged",) if not_converged else ()
