"""What a waiting daemon takes, and how well it keeps its starts.

    python benchmarks/daemon.py [--seconds N]

At most 40 MB of resident memory, no measurable CPU time, and starts within 1 s of their ticks. The daemon is real and
repeats the tests' toy campaign; only the wait is long enough to be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psutil

from pairs import ALONE, heading

TOY = Path(__file__).parents[1] / "tests" / "toy"
ROUNDS = 6

CAMPAIGN = """\
campaign_name: waiting
model: beads
defaults:
  {max_input_tokens: 4, max_output_tokens: 4, num_input_prompts: 20, warmup: {enabled: false},
   baseline: {enabled: false}}
window: {seconds: 0, passes: 1}
grid: {backends: [abacus]}
execution: {cycles: 1, conditioning: false}
daemon: {enabled: true}
"""


def start(folder: str, *settings: str) -> subprocess.Popen[bytes]:
    """Start a daemon of the toy campaign."""
    Path(folder, "pytest.ini").write_text("[pytest]\n")
    Path(folder, "grid.yaml").write_text(CAMPAIGN)
    options = [f"--campaign-set=daemon.{setting}" for setting in settings]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", *ALONE, "--campaign=grid.yaml", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(TOY)},
        stdout=subprocess.DEVNULL,
    )


def waiting(seconds: float) -> None:
    """Print what a daemon takes that waits for tomorrow."""
    with tempfile.TemporaryDirectory() as folder:
        past = time.strftime("%H:%M", time.localtime(time.time() - 120))
        daemon = start(folder, f"at='{past}'")
        while not list(Path(folder).rglob("series.json")):
            time.sleep(0.1)
        time.sleep(2)
        process = psutil.Process(daemon.pid)
        before = process.cpu_times()
        time.sleep(seconds)
        after, memory = process.cpu_times(), process.memory_full_info()
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
    used_s = after.user + after.system - before.user - before.system
    print(f"resident {memory.rss / 1e6:.1f} MB, of them its own {memory.uss / 1e6:.1f} MB (at most 40)")
    print(f"CPU time {1e3 * used_s:.0f} ms in {seconds:.0f} s of waiting (ticks of 10 ms)")


def drift() -> None:
    """Print how far the starts of some rounds are from their ticks."""
    with tempfile.TemporaryDirectory() as folder:
        daemon = start(folder, "interval=20s", f"total_duration={20 * ROUNDS - 1}s")
        daemon.wait()
        (path,) = Path(folder).rglob("series.json")
        rounds = json.loads(path.read_text())["rounds"]
    late_ms = [
        1e3 * (datetime.fromisoformat(one["started_at"]) - datetime.fromisoformat(one["due"])).total_seconds()
        for one in rounds
    ]
    low, high = min(late_ms), max(late_ms)
    print(f"{len(rounds)} rounds began {low:.1f} to {high:.1f} ms after their ticks (at most 1000)")


def main() -> None:
    parser = argparse.ArgumentParser(description="What a waiting daemon takes")
    parser.add_argument("--seconds", type=float, default=180, help="how long the wait is measured")
    heading("A daemon that waits")
    waiting(parser.parse_args().seconds)
    drift()


if __name__ == "__main__":
    main()
