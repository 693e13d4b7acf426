"""Commands beside pytest's: `python -m pytest_llem`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_llem.daemon import series as account
from pytest_llem.daemon.locks import DaemonBusyError, DaemonLock
from pytest_llem.daemon.series import SeriesError

PROGRAM = "python -m pytest_llem"
REFUSED = 4
"""Exit code of a command that cannot be carried out, as pytest's of its usage errors."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command and return the exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="What is there beside pytest --campaign FILE.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    rounds = commands.add_parser(
        "rounds",
        help="show the rounds of a daemon's series and the table over them",
        description="Show the rounds of a daemon's series and the table over them, with the round as the unit;"
        " write both beside the series. Exit code 1: an experiment failed, or a budget is not kept.",
    )
    rounds.add_argument(
        "folder", type=Path, help="of a series, or of a campaign's results: its newest series"
    )
    rounds.add_argument(
        "--end",
        action="store_true",
        help="end the series, so that the daemon begins a new one when it starts",
    )
    rounds.set_defaults(command=show_rounds)
    options = parser.parse_args(arguments)
    try:
        code: int = options.command(options)
    except (SeriesError, DaemonBusyError, OSError) as error:
        print(f"ERROR: {error}", file=sys.stderr)  # noqa: T201 - a program's output
        return REFUSED
    return code


def show_rounds(options: argparse.Namespace) -> int:
    """Show a series, or end it."""
    folder = account.find(options.folder)
    if options.end:
        end_series(folder)
        print(f"ended: {folder}")  # noqa: T201
        return 0
    return _show(folder)


def end_series(folder: Path) -> None:
    """End a series that has no daemon.

    Raises:
        DaemonBusyError: it has one.
    """
    lock = DaemonLock(folder.parent / account.LOCK_FILE)
    series = account.read(folder)
    series.ended = True
    account.write(folder, series)
    lock.close()


def _show(folder: Path) -> int:
    from pytest_llem.series import SeriesReport  # noqa: PLC0415 - numpy and scipy: not to end a series
    from pytest_llem.state.results import DamagedFileError, StorageError  # noqa: PLC0415

    try:
        report = SeriesReport(folder)
        for line in report.lines():
            print(line)  # noqa: T201
        report.write()
    except (StorageError, DamagedFileError) as error:
        print(f"ERROR: {error}", file=sys.stderr)  # noqa: T201
        return REFUSED
    return int(report.has_failed)


if __name__ == "__main__":
    sys.exit(main())
