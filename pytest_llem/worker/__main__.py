"""Start the server: `python -m pytest_llem.worker --socket PATH [--preload MODULE ...]`.

The process answers when its socket is there. It ends, with every engine, on SIGTERM, and when its stdin closes
unless it is `--resident`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from pytest_llem.meters import inventory
from pytest_llem.worker import environment, forking
from pytest_llem.worker.client import DEFAULT_SOCKET
from pytest_llem.worker.measurement import Bench, visible_devices
from pytest_llem.worker.server import WorkerServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; returns the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    options.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    options.socket.unlink(missing_ok=True)  # of the server before a restart of the container
    if not options.resident:
        _stop_when_stdin_closes()
    start = forking.choose(options.preload, timeout_s=options.start_timeout)
    bench = Bench(start, options.socket.parent)
    gpus = inventory.take(visible_devices())
    snapshot = environment.snapshot(options.package, bench.meters.describe(), gpus, [start.reason])
    try:
        with WorkerServer(options.socket, start, bench, snapshot) as server:
            server.serve_forever(poll_interval=3600)
    finally:
        bench.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pytest_llem.worker", description=__doc__)
    parser.add_argument(
        "--socket", type=Path, default=Path(DEFAULT_SOCKET), help="where to listen, in a private folder"
    )
    parser.add_argument("--resident", action="store_true", help="do not end with stdin: a container has none")
    parser.add_argument("--preload", action="append", default=[], help="module for the forkserver to import")
    parser.add_argument("--package", action="append", default=[], help="distribution to name in the snapshot")
    parser.add_argument("--start-timeout", type=float, default=600.0, help="seconds for the imports")
    return parser


def _stop_when_stdin_closes() -> None:
    """Raise SIGTERM in the main thread when the session that started us is gone, however it went."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="llem-stdin", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
