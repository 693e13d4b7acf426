"""The daemon's process: `python -m pytest_llem.daemon`, which a session with `daemon.enabled` becomes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import time
from pathlib import Path

from pytest_llem.daemon.clock import Schedule
from pytest_llem.daemon.herald import Herald
from pytest_llem.daemon.locks import DaemonBusyError, DaemonLock, Leash
from pytest_llem.daemon.repeat import Campaign, Daemon
from pytest_llem.daemon.rounds import Sessions
from pytest_llem.daemon.series import LEASH_FILE, LOCK_FILE, SeriesError
from pytest_llem.daemon.sleep import SignalBed
from pytest_llem.daemon.words import Speaker

REFUSED = 4
"""Exit code of what cannot begin, as pytest's."""

LOG = "daemon.log"


def main(arguments: Sequence[str] | None = None) -> int:
    """Repeat a campaign, and return the exit code."""
    options = _parser().parse_args(arguments)
    schedule = Schedule(options.at, options.interval, options.total)
    speaker = Speaker(schedule)
    bed = SignalBed()
    folder: Path = options.folder
    try:
        lock = DaemonLock(folder / LOCK_FILE)
        leash = Leash(folder / LEASH_FILE)
        campaign = Campaign(options.campaign, options.sha256, options.points_sha256, options.executor, folder)
        sessions = Sessions(options.command, None)
        daemon = Daemon(
            campaign,
            schedule,
            bed=bed,
            starter=sessions,
            speaker=speaker,
            leash=leash,
            herald=Herald.from_environment(),
        )
        series = daemon.take_up()
    except (DaemonBusyError, SeriesError, OSError) as error:
        print(f"ERROR: {error}", file=sys.stderr)  # noqa: T201 - a program's output
        return REFUSED
    if options.quiet:
        speaker.log = sessions.log = daemon.folder(series) / LOG
        speaker.say(bed.now(), f"log: {speaker.log}")
    code = daemon.run(series)
    lock.close()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pytest_llem.daemon", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the campaign's series")
    parser.add_argument("--campaign", required=True, help="its name")
    parser.add_argument("--sha256", required=True, help="of what it says")
    parser.add_argument("--points-sha256", required=True, help="of what is measured")
    parser.add_argument("--executor", required=True, help="where it is measured")
    parser.add_argument("--at", type=time.fromisoformat, help="local time of the first start")
    parser.add_argument("--interval", type=int, help="seconds from start to start")
    parser.add_argument("--total", type=int, help="seconds from the first start to the end")
    parser.add_argument(
        "--quiet", action="store_true", help="one line an event; the rounds' output into a log"
    )
    parser.add_argument("command", nargs="+", help="the session of a round")
    return parser


if __name__ == "__main__":
    sys.exit(main())
