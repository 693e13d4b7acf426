"""The commands that a session prints."""

from __future__ import annotations

import shlex
from pathlib import Path

from pytest_llem.command_line import CommandLine
from pytest_llem.settings import Settings


def options(*overrides: str, **rest: object) -> list[str]:
    """Return the words of the command that goes on with a session that had these options."""
    settings = Settings(Path("/here/a b/grid.yaml"), Path("/here"), overrides=overrides)
    return shlex.split(CommandLine(settings, Path("/here/below"), **rest).go_on())  # type: ignore[arg-type]


def test_a_command_is_typed_where_the_user_is() -> None:
    """The path is relative to the user's folder and survives the shell."""
    assert options() == ["pytest", "--campaign=../a b/grid.yaml", "--lf"]
    assert options(rootdir="..")[3:] == ["--rootdir=.."]


def test_what_may_be_secret_is_not_repeated() -> None:
    """An address of a webhook and variables of a service stand in no report; the other options do."""
    told = options("notify.webhook_url=https://x/y", "services.vllm.env.TOKEN=z", "execution.cycles=3")
    assert told[3:] == ["--campaign-set", "execution.cycles=3"]


def test_a_daemons_campaign_is_gone_on_with_by_a_session_of_its_own() -> None:
    """Without the override the command would begin a new series."""
    assert options(is_daemons=True)[3:] == ["--campaign-set", "daemon.enabled=false"]
