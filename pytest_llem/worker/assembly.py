"""From what was served and metered to a measurement: energy, tokens and time of each window."""

from __future__ import annotations

from pytest_llem.meters.choose import times_s
from pytest_llem.records import Launch, Measurement, Quantity
from pytest_llem.worker import flops, metrics, prefill, tracing
from pytest_llem.worker.energy import Metered, account
from pytest_llem.worker.engine_process import Served
from pytest_llem.worker.protocol import Order
from pytest_llem.worker.tally import Tally

CACHED_SHARE = 0.01
"""More prompt tokens than this part from a prefix cache, and what was measured is another workload."""


def assemble(
    order: Order, served: Served, launch: Launch, metered: Metered, second: Metered | None
) -> Measurement:
    """Make the measurement of an order that was served and metered; `second` is the window of the prefill."""
    found = _of_window(order, served, launch, metered)
    if served.prefill is None or second is None:
        return found
    tally = served.prefill
    energy = account(second, (tally.begin_s, tally.end_s))
    whole = prefill.Phase(served.tally, found.energy_j["total"])
    split = prefill.metrics(whole, prefill.Phase(tally, energy.energy_j["total"]))
    flags = (*found.flags, *_flags_of_cache(order, tally), *second.window.flags)
    return found.model_copy(
        update={
            "prefill": prefill.report(tally, energy, second),
            "metrics": metrics.merged(found.metrics, split),
            "flags": tuple(dict.fromkeys(flags)),
        }
    )


def _of_window(order: Order, served: Served, launch: Launch, metered: Metered) -> Measurement:
    tally, application = served.tally, served.application
    rests = tally.load is None  # at the edges; under load the work goes on
    energy = account(metered, (tally.begin_s, tally.end_s) if rests else None)
    return Measurement(
        launch=launch,
        warmup=served.warmup,
        window_s=tally.window_s,
        energy_window_s=metered.end[0].at_s - metered.begin[0].at_s,
        passes=tally.passes,
        requests=len(tally.requests),
        prompt_tokens=tally.prompt_tokens,
        cached_tokens=tally.cached_tokens,
        padding_tokens=tally.padding_tokens,
        output_tokens=tally.output_tokens,
        mean_running_batch=tally.mean_running_batch,
        full_batch_share=tally.full_batch_share,
        preemptions=tally.preemptions,
        load=tally.load,
        prompt_sha256=served.prompt_sha256,
        energy_edges_s=times_s(metered.begin, metered.end),
        energy_j=energy.energy_j,
        edge_idle_j=energy.edge_idle_j,
        idle=metered.idle.known,
        devices=tracing.of_devices(metered.window),
        metrics=metrics.merged(
            metrics.energy(energy.energy_j["total"], tally),
            energy.metrics,
            metrics.throughput(tally),
            metrics.latency(tally.requests, under_load=tally.load is not None),
            _of_launch(launch),
            flops.of_window(order, tally.requests),
            {
                "memory_peak_bytes": metrics.known(
                    "memory_peak_bytes", served.memory_peak_bytes, "system", "the engine does not report it"
                )
            },
        ),
        asked=application.asked,
        effective=application.effective,
        unconfirmed=application.unconfirmed,
        flags=(*_flags(order, served), *metered.window.flags),
    )


def _of_launch(launch: Launch) -> dict[str, Quantity]:
    """Return load and cold-start metrics; a warm experiment paid for neither."""
    if launch.warm:
        return {}
    cold_start_s = launch.start_s + launch.load_s
    return _of_build(launch) | {
        "model_load_time_s": metrics.known("model_load_time_s", launch.load_s, "clock", ""),
        "model_load_energy_j": launch.load_energy_j,
        "cold_start_time_s": metrics.known("cold_start_time_s", cold_start_s, "clock", ""),
        "cold_start_energy_j": launch.cold_start_energy_j,
    }


def _of_build(launch: Launch) -> dict[str, Quantity]:
    """Return what an engine cost that was built for this launch."""
    if launch.build_s is None or launch.build_energy_j is None:
        return {}
    return {
        "engine_build_time_s": metrics.known("engine_build_time_s", launch.build_s, "clock", ""),
        "engine_build_energy_j": launch.build_energy_j,
    }


def _flags(order: Order, served: Served) -> tuple[str, ...]:
    flags = {
        "warmup_not_converged": served.warmup is not None and served.warmup.converged is False,
        "saturated": served.tally.saturated,
    }
    return (*(name for name, holds in flags.items() if holds), *_flags_of_cache(order, served.tally))


def _flags_of_cache(order: Order, tally: Tally) -> tuple[str, ...]:
    reused = (tally.cached_tokens or 0) > CACHED_SHARE * tally.prompt_tokens
    return ("prompts_from_cache",) if reused and order.configuration.prefix_reuse == "forbid" else ()
