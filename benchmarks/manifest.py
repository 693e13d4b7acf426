"""What one transition costs in a long journal, beside the same bytes appended and synced by hand.

    python benchmarks/manifest.py [--folder FOLDER] [--repeats N]

FOLDER says which disk is measured (default: the current folder). Prints medians in milliseconds, the cost in
the longest journal over that in the shortest (of the floor too: disks drift), and how long the longest takes
to fold.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_llem.state.manifest import Journal, fold, new_event

LENGTHS = (100, 1_000, 10_000, 100_000)


def completed(number: int) -> dict[str, Any]:
    """Return the fields of the event of one completed experiment."""
    name = f"pytorch-gpt2-batch_size-{number}-c1"
    now = datetime.now(UTC).isoformat()
    return {
        "spec_hash": f"{number:032x}",
        "cycle": 1,
        "experiment_id": name,
        "attempt": 1,
        "started_at": now,
        "completed_at": now,
        "result": f"experiments/{name}/attempt-1.json",
        "bytes": 6355,
    }


def growing_journal(path: Path) -> Iterator[tuple[int, Journal]]:
    """Yield the journal each time it has grown to the next of LENGTHS."""
    journal, length = Journal(path, {}), 0
    for target in LENGTHS:
        journal.extend(new_event("completed", **completed(number)) for number in range(length, target))
        length = target
        yield length, journal
    journal.close()


def transition_ms(journal: Journal, number: int) -> float:
    """Time one append through the journal."""
    fields = completed(number)
    start = time.perf_counter()
    journal.append("completed", **fields)
    return 1e3 * (time.perf_counter() - start)


def floor_ms(descriptor: int, line: bytes) -> float:
    """Time what no journal can do without: one write and one sync."""
    start = time.perf_counter()
    os.write(descriptor, line)
    os.fsync(descriptor)
    return 1e3 * (time.perf_counter() - start)


def last_line(path: Path) -> bytes:
    """Return the end of the journal, as the floor's bytes."""
    with path.open("rb") as file:
        file.seek(-2000, os.SEEK_END)
        return file.readlines()[-1]


def measure(folder: Path, repeats: int) -> list[tuple[float, float]]:
    """Print and return both medians at each length; journal and floor take turns on the same disk."""
    path, medians = folder / "main.jsonl", []
    descriptor = os.open(folder / "floor", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    print(f"{'entries':>9} {'transition ms':>14} {'floor ms':>9} {'ratio':>6}")
    for length, journal in growing_journal(path):
        line, ours, floor = last_line(path), [], []
        for number in range(repeats):
            ours.append(transition_ms(journal, number))
            floor.append(floor_ms(descriptor, line))
        above, beneath = statistics.median(ours), statistics.median(floor)
        medians.append((above, beneath))
        print(f"{length:>9,} {above:>14.3f} {beneath:>9.3f} {above / beneath:>6.2f}")
    os.close(descriptor)
    return medians


def main() -> None:
    """Read the arguments, measure and print."""
    parser = argparse.ArgumentParser(description="Cost of one transition of the manifest")
    parser.add_argument("--folder", type=Path, default=Path(), help="a folder on the disk to measure")
    parser.add_argument("--repeats", type=int, default=200, help="transitions timed at each length")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        medians = measure(Path(name), options.repeats)
        start = time.perf_counter()
        attempts = len(fold([Path(name) / "main.jsonl"]).attempts)
        seconds = time.perf_counter() - start
    ours, floor = (longest / shortest for shortest, longest in zip(medians[0], medians[-1], strict=True))
    print(f"{LENGTHS[-1]:,} entries over {LENGTHS[0]}: {ours:.2f} (floor, in the same minutes: {floor:.2f})")
    print(f"folding {attempts:,} experiments: {seconds:.2f} s")


if __name__ == "__main__":
    main()
