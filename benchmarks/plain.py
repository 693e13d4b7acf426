"""What the installed plugin costs a session without a campaign: less than 5 ms, and none of the heavy imports."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pairs import Run, heading, measure, pairs

HEAVY = ("pydantic", "yaml", "numpy", "scipy", "torch", "python_on_whales", "rich", "psutil", "filelock")


def session(folder: str, *options: str) -> Run:
    return measure([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options], cwd=folder)


def heavy_imports(folder: str) -> list[str]:
    """Return which heavy modules a plain session has imported."""
    code = f"import sys, pytest; pytest.main(['-q']); print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return [name for name in HEAVY if f"'{name}'" in done.stdout.splitlines()[-1]]


def main() -> None:
    heading("A plain session of one test, with the plugin and with -p no:llem")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_one.py").write_text("def test_one(): pass\n")
        runs = pairs(lambda: session(folder), lambda: session(folder, "-p", "no:llem"), count=30)
        added_ms = [1e3 * (a.cpu_s - b.cpu_s) for a, b in runs]
        print(f"added CPU time: median {statistics.median(added_ms):.1f} ms of {len(added_ms)} pairs (at most 5)")
        print(f"heavy modules imported: {heavy_imports(folder) or 'none'}")


if __name__ == "__main__":
    main()
