"""The pytest plugin: options and the decision whether a campaign was asked for. Hooks only.

Without a campaign nothing else of this package is imported, and nothing but the `experiment` fixture is there.
With one, `campaign_plugin.CampaignPlugin` is registered and does the rest.
"""

from __future__ import annotations

import pytest

from pytest_llem.fixtures import experiment as experiment  # noqa: PLC0414 - a fixture of every session

MARKER = (
    "campaign(backend, model, cycle, ...): an experiment of a campaign; each axis is a keyword to select by"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options (README, "Options")."""
    group = parser.getgroup("llem", "LLM inference campaigns (pytest-llem)")
    group.addoption(
        "--campaign",
        metavar="FILE",
        action="append",  # so that a second one can be refused
        help="measure the experiments of this campaign file",
    )
    group.addoption(
        "--campaign-set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a key of the campaign by its dotted path, such as execution.cycles=7; repeatable",
    )
    group.addoption(
        "--campaign-executor",
        choices=("auto", "local", "compose"),
        default="auto",
        help="where experiments run: local = child processes, compose = containers, auto = compose if a Docker"
        " engine and the images are here, else local",
    )
    group.addoption(
        "--campaign-gpus",
        metavar="LIST",
        help="GPUs to measure on, by index or UUID, or none; default: CUDA_VISIBLE_DEVICES, the scheduler's, else an"
        " idle one",
    )
    group.addoption(
        "--campaign-build",
        action="store_true",
        help="build the images of the services before the first experiment",
    )
    group.addoption(
        "--campaign-keep-containers",
        action="store_true",
        help="leave the containers running at the end, to look into them",
    )
    group.addoption(
        "--campaign-require",
        choices=("measured",),
        help="measured: an experiment whose energy no instrument measured fails",
    )
    group.addoption(
        "--campaign-fetch",
        action="store_true",
        help="download all models and datasets before the first experiment",
    )
    group.addoption(
        "--force-cold-start",
        dest="force_cold_start",
        action="store_true",
        default=None,
        help="a new engine process for every experiment (cold_start.force_cold_start)",
    )
    group.addoption(
        "--no-force-cold-start",
        dest="force_cold_start",
        action="store_false",
        default=None,
        help="override cold_start.force_cold_start: true of the campaign",
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that a conftest.py may implement."""
    from pytest_llem import hookspec  # noqa: PLC0415 - the import is cheap, and stays out of the module's top

    pluginmanager.add_hookspecs(hookspec)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Give `--campaign FILE` and `--campaign=FILE` one rootdir, hence one cache."""
    if "--campaign" in args:
        from pytest_llem.rootdir import settle  # noqa: PLC0415

        settle(early_config)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Load the campaign if one is asked for; an invalid one is a usage error, exit code 4."""
    config.addinivalue_line("markers", MARKER)
    if config.getoption("help", default=False) or config.getoption("version", default=0):
        return
    if config.getoption("--campaign") is None and not any(_names_yaml(argument) for argument in config.args):
        return
    from pytest_llem.registration import register  # noqa: PLC0415 - only now the heavy modules

    register(config)


def _names_yaml(argument: str) -> bool:
    return argument.partition("::")[0].endswith((".yaml", ".yml"))
