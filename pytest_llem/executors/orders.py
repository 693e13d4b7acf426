"""From a point of the grid to the order that a worker understands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign import windows
from pytest_llem.campaign.grid import Point
from pytest_llem.campaign.schema import Campaign, Execution
from pytest_llem.records import RANDOM_WEIGHTS, Configuration, Dataset
from pytest_llem.worker.protocol import Order, Timeouts, WarmupPolicy
from pytest_llem.worker.workload import read_prompts

LEAST_RUN_TIMEOUT_S = 600.0


class Snapshot(NamedTuple):
    """A hub model on disk: its folder beside the worker, and the commit that it is."""

    folder: str
    revision: str


class Supplies(NamedTuple):
    """What came from elsewhere for one point: its model if that is on a hub, the texts of its dataset."""

    model: Snapshot | None
    texts: tuple[str, ...] | None


class OrderBook:
    """Writes the orders of one campaign.

    Args:
        campaign: the resolved campaign.
        rootdir: where relative paths of models, datasets and prompts begin.
        backends: the specs by name.
        place: where a worker finds a folder or file of this host.
        devices: which GPUs a configuration has; None: all of its service.
    """

    def __init__(
        self,
        campaign: Campaign,
        rootdir: Path,
        backends: Mapping[str, BackendSpec],
        place: Callable[[Path], str] = str,
        devices: Callable[[Configuration], tuple[str, ...] | None] = lambda _: None,
    ) -> None:
        self._place = place
        self._devices = devices
        self._campaign = campaign
        self._rootdir = rootdir
        self._backends = backends

    def order(
        self,
        point: Point,
        *,
        experiment_id: str,
        launch: str,
        supplies: Supplies,
        measured: bool = True,
    ) -> Order:
        """Return the order for one experiment at this point."""
        wanted = point.configuration
        spec = self._backends[wanted.backend]
        engine = spec.engine
        assert engine is not None, "a point whose backend has no engine was filtered"
        return Order(
            experiment_id=experiment_id,
            launch=launch,
            engine_key=point.engine_key,
            engine=engine,
            model=supplies.model.folder if supplies.model else self._model(wanted),
            model_files=_architecture(folder) if (folder := self._described_folder(wanted)) else None,
            configuration=wanted,
            devices=self._devices(wanted),
            model_runs=spec.model_runs(wanted),
            prompts=supplies.texts
            if wanted.prompts_file is None
            else _texts(self._rootdir / wanted.prompts_file),
            warmup=warmup_policy(wanted, self._campaign.execution),
            window_s=self._campaign.window.seconds,
            window_passes=self._campaign.window.passes,
            timeouts=self._timeouts(wanted),
            measured=measured,
        )

    def hub_id(self, wanted: Configuration) -> str | None:
        """Return the model's id on a hub, or None: it is a folder here, or a name that only its engine knows."""
        on_hub = self._backends[wanted.backend].loads_models and not self._local_model(wanted)
        return bare_name(wanted.model_name) if on_hub else None

    def dataset(self, wanted: Configuration) -> Dataset | None:
        """Return the dataset with the path of one that is a folder or file here, as the worker sees it."""
        dataset = wanted.dataset
        path = self._local(dataset.name) if dataset else None
        return dataset.model_copy(update={"name": self._place(path)}) if dataset and path else dataset

    def inputs(self, points: Iterable[Point]) -> list[Path]:
        """Return the folders and files of this host that workers need for these points."""
        found: dict[Path, None] = {}
        for point in points:
            wanted = point.configuration
            model = None if self._described_folder(wanted) else self._local_model(wanted)
            dataset = self._local(wanted.dataset.name) if wanted.dataset else None
            found |= dict.fromkeys(path for path in (model, dataset) if path is not None)
        return list(found)

    def _model(self, wanted: Configuration) -> str:
        folder = None if self._described_folder(wanted) else self._local_model(wanted)
        return self._place(folder) if folder else bare_name(wanted.model_name)

    def _described_folder(self, wanted: Configuration) -> Path | None:
        """Return the folder of a model of which the architecture alone is needed: its description travels."""
        has_texts = wanted.dataset is not None or wanted.prompts_file is not None
        if has_texts or not wanted.model_name.startswith(RANDOM_WEIGHTS):
            return None
        return self._local_model(wanted)

    def _local_model(self, wanted: Configuration) -> Path | None:
        path = self._local(bare_name(wanted.model_name))
        return path if path and path.is_dir() else None

    def _local(self, name: str) -> Path | None:
        try:
            path = (self._rootdir / Path(name).expanduser()).resolve()
            return path if path.exists() else None
        except (OSError, RuntimeError):  # no path at all: too long, no such user
            return None

    def _timeouts(self, wanted: Configuration) -> Timeouts:
        execution = self._campaign.execution
        window = self._campaign.window
        likely_s = windows.likely_s(wanted, window) or 0.0
        derived_run_s = max(LEAST_RUN_TIMEOUT_S, 10 * window.seconds, 10 * likely_s)
        return Timeouts(
            start_s=execution.start_timeout_seconds or self._backends[wanted.backend].engine_start_timeout_s,
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
    return model_name.removeprefix(RANDOM_WEIGHTS)


def _architecture(folder: Path) -> dict[str, str]:
    """Return what describes a model in a folder: its configuration, and code of its own if it has some."""
    files = [folder / "config.json", folder / "generation_config.json", *sorted(folder.glob("*.py"))]
    return {file.name: file.read_text(encoding="utf-8") for file in files if file.is_file()}


@functools.lru_cache(maxsize=8)
def _texts(path: Path) -> tuple[str, ...]:
    return tuple(read_prompts(path))
