"""From a point of the grid to the order that a worker understands."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.grid import Point
from pytest_llem.campaign.schema import Campaign, Execution
from pytest_llem.records import Configuration
from pytest_llem.worker.protocol import Order, Timeouts, WarmupPolicy
from pytest_llem.worker.workload import read_prompts

RANDOM = "random:"
LEAST_RUN_TIMEOUT_S = 600.0


class OrderBook:
    """Writes the orders of one campaign.

    Args:
        campaign: the resolved campaign.
        rootdir: where relative model folders and prompt files begin.
        backends: the specs by name.

    Attributes:
        snapshots: the folder of each hub model that has been fetched, by `model_name`.
    """

    def __init__(self, campaign: Campaign, rootdir: Path, backends: Mapping[str, BackendSpec]) -> None:
        self._campaign = campaign
        self._rootdir = rootdir
        self._backends = backends
        self.snapshots: dict[str, str] = {}

    def order(self, point: Point, *, experiment_id: str, launch: str, measured: bool = True) -> Order:
        """Return the order for one experiment at this point."""
        wanted = point.configuration
        engine = self._backends[wanted.backend].engine
        assert engine is not None, "a point whose backend has no engine was filtered"
        return Order(
            experiment_id=experiment_id,
            launch=launch,
            engine_key=point.engine_key,
            engine=engine,
            model=self._model(wanted),
            configuration=wanted,
            prompts=self._prompts(wanted),
            warmup=warmup_policy(wanted, self._campaign.execution),
            window_s=self._campaign.window.seconds,
            window_passes=self._campaign.window.passes,
            timeouts=self._timeouts(wanted.backend),
            measured=measured,
        )

    def is_on_hub(self, wanted: Configuration) -> bool:
        """Return whether the model must come from a hub: its backend loads models, and it is no folder here."""
        spec = self._backends[wanted.backend]
        return spec.loads_models and local_model(wanted.model_name, self._rootdir) is None

    def _model(self, wanted: Configuration) -> str:
        local = local_model(wanted.model_name, self._rootdir)
        return str(local) if local else self.snapshots.get(wanted.model_name, bare_name(wanted.model_name))

    def _prompts(self, wanted: Configuration) -> tuple[str, ...] | None:
        if wanted.prompts_file is None:
            return None
        return _texts(self._rootdir / wanted.prompts_file)

    def _timeouts(self, backend: str) -> Timeouts:
        execution = self._campaign.execution
        derived_run_s = max(LEAST_RUN_TIMEOUT_S, 10 * self._campaign.window.seconds)
        return Timeouts(
            start_s=execution.start_timeout_seconds or self._backends[backend].engine_start_timeout_s,
            run_s=execution.timeout_seconds or derived_run_s,
            silence_s=execution.silence_seconds,
        )


def warmup_policy(wanted: Configuration, execution: Execution) -> WarmupPolicy:
    """Return floor and cap of the warm-up: the experiment's own `warmup` wins over the campaign's."""
    own = wanted.warmup.min_prompts
    floor = execution.warmup_prompts if own is None else own
    return WarmupPolicy(min_prompts=floor, timeout_s=execution.warmup_timeout_seconds)


def bare_name(model_name: str) -> str:
    """Return a model's name without the mark for random weights."""
    return model_name.removeprefix(RANDOM)


def local_model(model_name: str, rootdir: Path) -> Path | None:
    """Return the model's folder if it is one, absolute, else None: then it is a hub id."""
    folder = rootdir / Path(bare_name(model_name)).expanduser()
    return folder.resolve() if folder.is_dir() else None


@functools.lru_cache(maxsize=8)
def _texts(path: Path) -> tuple[str, ...]:
    return tuple(read_prompts(path))
