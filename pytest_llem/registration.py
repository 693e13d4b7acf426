"""From a command line that names a campaign to a session at it: what pytest's options mean, and who hears its hooks."""

from __future__ import annotations

import atexit
import gc
import os
from pathlib import Path

import pytest
from _pytest.pathlib import absolutepath

from pytest_llem import compose_fixtures, daemon_plugin, notify_plugin
from pytest_llem.backends.registry import BackendError
from pytest_llem.campaign.loader import CampaignError
from pytest_llem.campaign.sniff import looks_like_campaign
from pytest_llem.campaign_plugin import CampaignPlugin
from pytest_llem.collection import NoCampaign
from pytest_llem.daemon.assignment import Assignment, CampaignChangedError
from pytest_llem.daemon.series import SeriesError
from pytest_llem.executors.base import ExecutorError
from pytest_llem.last_failed import LastFailed
from pytest_llem.session import CampaignSession
from pytest_llem.settings import Seat, Settings
from pytest_llem.state.results import DamagedFileError, StorageError, storage
from pytest_llem.state.run import RunBusyError

NAME = "llem-campaign"
REFUSALS = (
    BackendError,
    CampaignError,
    RunBusyError,
    StorageError,
    DamagedFileError,
    ExecutorError,
    CampaignChangedError,
    SeriesError,
)


def register(config: pytest.Config) -> None:
    """Load the campaign that the command line names and register its plugin.

    Raises:
        pytest.UsageError: the campaign, or what is asked of it, is not valid.
    """
    path = _campaign_path(config)
    if path is None:
        named = dict.fromkeys(argument.partition("::")[0] for argument in config.args)
        others = [name for name in named if (config.invocation_params.dir / name).is_file()]
        config.pluginmanager.register(NoCampaign(others), f"{NAME}-none")
        return
    _refuse_parallel(config)
    if config.getoption("--campaign") is not None and config.args_source != pytest.Config.ArgsSource.ARGS:
        config.args[:] = [str(path)]
    seat = getattr(config, "workerinput", {}).get("llem_seat")
    try:
        session = CampaignSession(_settings(config, path), Seat(**seat) if seat else None)
    except REFUSALS as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(CampaignPlugin(config, session), NAME)
    config.stash[compose_fixtures.SESSION] = session
    config.pluginmanager.register(compose_fixtures, f"{NAME}-compose")
    notify_plugin.register(config, session)
    if session.campaign.daemon.enabled:
        daemon_plugin.register(config, session)
    atexit.register(gc.freeze)  # else Python, on its way out, walks all items several times before it lets go
    if config.getoption("lf", default=False):
        _continue_with_all_items(config, session)


def _campaign_path(config: pytest.Config) -> Path | None:
    """Return the campaign of `--campaign`, or of a positional argument or node id that is one."""
    here = config.invocation_params.dir
    named: list[str] = config.getoption("--campaign") or []
    if "" in named:
        raise pytest.UsageError(
            "--campaign: the name of its file is empty; is a variable of the shell not set?"
        )
    paths = {absolutepath(here / argument.partition("::")[0]) for argument in config.args}
    campaigns = {absolutepath(here / name) for name in named} | set(filter(looks_like_campaign, paths))
    if len(campaigns) > 1:
        names = ", ".join(sorted(os.path.relpath(path, here) for path in campaigns))
        raise pytest.UsageError(
            f"one campaign a session, not {len(campaigns)}: {names}; start pytest once for each"
        )
    return campaigns.pop() if campaigns else None


def _refuse_parallel(config: pytest.Config) -> None:
    workers = len(getattr(config.option, "tx", None) or ())
    if workers > 1:
        raise pytest.UsageError(
            f"-n {workers}: experiments beside each other would share the device, its memory and its power, and none"
            " of their numbers would be right; use -n 1 or leave it out"
        )


def _settings(config: pytest.Config, path: Path) -> Settings:
    cold: bool | None = config.getoption("force_cold_start")
    overrides = list(config.getoption("--campaign-set"))
    if cold is not None:
        overrides.append(f"cold_start.force_cold_start={str(cold).lower()}")
    dry = bool(config.getoption("collectonly"))
    return Settings(
        path=path,
        rootdir=config.rootpath,
        overrides=tuple(overrides),
        cache=_cache_folder(config, dry=dry),
        resume=bool(config.getoption("lf", default=False)),
        dry=dry,
        require_measured=config.getoption("--campaign-require") == "measured",
        fetch=bool(config.getoption("--campaign-fetch")),
        executor=config.getoption("--campaign-executor"),
        gpus=config.getoption("--campaign-gpus"),
        round=Assignment.of(os.environ),
    )


def _cache_folder(config: pytest.Config, *, dry: bool) -> Path | None:
    """Return our folder in pytest's cache; None without one. A dry session does not make it.

    Raises:
        StorageError: it cannot be made.
    """
    cache = getattr(config, "cache", None)
    if cache is None:
        return None
    folder: Path = cache._cachedir / "d" / "llem"  # noqa: SLF001 - asked for by `cache.mkdir`, it would be made
    if not dry:
        with storage(folder):
            cache.mkdir(folder.name)
    return folder


def _continue_with_all_items(config: pytest.Config, session: CampaignSession) -> None:
    """Let native `--lf` select the whole campaign: what is done is deselected by the run's own record."""

    def failed() -> list[str] | None:
        return None if session.run is None else [result.experiment_id for result in session.failed_results()]

    campaign = session.settings.path.relative_to(config.rootpath).as_posix()
    config.pluginmanager.register(LastFailed(config, campaign, failed), f"{NAME}-lf")
