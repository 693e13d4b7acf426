"""What the installed plugin costs a session without a campaign: less than 5 ms, and none of the heavy imports."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pairs import ALONE, COMPILED, Run, heading, measure, median, median_difference, pairs

HEAVY = ("pydantic", "yaml", "numpy", "scipy", "torch", "python_on_whales", "rich", "psutil", "filelock")
COUNT = 60


def session(folder: str, *options: str) -> Run:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ALONE, *options]
    return measure(command, cwd=folder)


def heavy_imports(folder: str) -> str:
    """Return which heavy modules a plain session has imported, as Python prints the list."""
    code = (
        f"import sys, pytest; pytest.main({['-q', *ALONE]}); print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | COMPILED,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def main() -> None:
    heading("A plain session of one test, with the plugin and with -p no:llem")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_one.py").write_text("def test_one(): pass\n")
        runs = pairs(lambda: session(folder), lambda: session(folder, "-p", "no:llem"), count=COUNT)
        cpu_ms, wall_ms = (1e3 * median_difference(runs, figure) for figure in ("cpu_s", "wall_s"))
        floor_ms = 1e3 * median([without for _, without in runs], "cpu_s")
        print(f"added, median of {COUNT} pairs: CPU {cpu_ms:.1f} ms, wall {wall_ms:.1f} ms (less than 5)")
        print(f"without the plugin: CPU {floor_ms:.0f} ms")
        print(f"heavy modules imported: {heavy_imports(folder)}")


if __name__ == "__main__":
    main()
