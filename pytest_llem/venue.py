"""Where a session measures, settled before anything runs: executor, GPUs, and the points that can run there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.grid import Expansion, expand, needed_backends
from pytest_llem.campaign.host import Host
from pytest_llem.campaign.loader import LoadedCampaign
from pytest_llem.executors.choose import ExecutorChoice, choose
from pytest_llem.executors.gpus import Installed, installed
from pytest_llem.executors.placement import Placement, place
from pytest_llem.executors.premises import host_of
from pytest_llem.settings import Settings


class Venue(NamedTuple):
    """What the three decide together: rules judge a point by the machine that the executor leads to.

    Attributes:
        executor: and why it was taken.
        expansion: the campaign's points.
        placement: which GPUs services and configurations work on.
    """

    executor: ExecutorChoice
    expansion: Expansion
    placement: Placement


def settle(
    loaded: LoadedCampaign, backends: Mapping[str, BackendSpec], settings: Settings, *, continued: str | None
) -> Venue:
    """Return where a campaign runs.

    Args:
        loaded: the campaign.
        backends: that are installed.
        settings: the options that name GPUs and executor.
        continued: the executor of the run or series that goes on.

    Raises:
        CampaignError: no point can run.
        ExecutorError: a GPU is named that is not here.
    """
    gpus = installed()
    services = loaded.campaign.services

    @cache
    def host(executor: str) -> Host | None:
        rootdir = settings.rootdir
        return host_of(gpus, bare, services, backends, executor=executor, rootdir=rootdir, environ=os.environ)

    bare = place(settings.gpus, services, os.environ, gpus, ())
    needed = needed_backends(loaded, backends, host(settings.executor))
    executor = choose(settings.executor, needed, settings.rootdir, services, continued=continued)
    expansion = expand(loaded, backends, executor.name, host(executor.name))
    return Venue(executor, expansion, _placed(settings, loaded, gpus, expansion))


def _placed(settings: Settings, loaded: LoadedCampaign, gpus: Installed, expansion: Expansion) -> Placement:
    configurations = [point.configuration for point in expansion.points]
    return place(settings.gpus, loaded.campaign.services, os.environ, gpus, configurations)
