"""Whole campaigns beside a powercap tree whose counters run: energy of CPU and DRAM."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runs import flags_of_meters
from scripted import Session
from sessions import WATCH_PHASES, phases
from standin.build import write_zone

PACKAGE_W, DRAM_W = 120.0, 30.0

RANGE_UJ = 100_000_000
"""The package's counter wraps every 0.8 s."""

POLL_S = 0.002

SOMEBODY = 12345
"""A user whose files root of a user namespace that does not know them may not read."""


class Tree:
    """A package and its DRAM, counting in real time until stopped."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._package = root / "intel-rapl" / "intel-rapl:0"
        self._counters = {
            write_zone(self._package, "package-0", 0, RANGE_UJ - 1): PACKAGE_W,
            write_zone(self._package / "intel-rapl:0:0", "dram", 0): DRAM_W,
        }
        self.at_work: Callable[[], object] = lambda: None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        begin_s = time.monotonic()
        while not self._stopped.wait(POLL_S):
            self.at_work()
            for file, power_w in self._counters.items():
                used_uj = int((time.monotonic() - begin_s) * power_w * 1e6)
                file.with_suffix(".new").write_text(
                    str(used_uj % RANGE_UJ if power_w == PACKAGE_W else used_uj)
                )
                file.with_suffix(".new").replace(file)

    def lose_dram(self) -> None:
        """Take the DRAM's zone away."""
        self._counters = {file: w for file, w in self._counters.items() if w == PACKAGE_W}
        shutil.rmtree(self._package / "intel-rapl:0:0", ignore_errors=True)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    running = Tree(tmp_path / "powercap")
    yield running
    running.stop()


def test_counters_that_wrap_give_their_power(tree: Tree, tmp_path: Path, nvml: Path) -> None:
    """Over two wraps and more, package and DRAM have the power that they count with, and `total` names both."""
    session = Session(tmp_path, nvml, [], "window.seconds=2", powercap=tree.root)
    found = session.measurement
    for domain, power_w in (("cpu", PACKAGE_W), ("dram", DRAM_W), ("total", PACKAGE_W + DRAM_W)):
        energy = found["energy_j"][domain]
        assert energy["source"] == "rapl"
        assert energy["value"] == pytest.approx(power_w * found["energy_window_s"], rel=0.05)
    assert found["energy_j"]["total"]["parts"] == ["cpu", "dram"]
    assert flags_of_meters(found) == set()
    assert session.result["trace"]


def test_a_zone_that_vanishes_leaves_no_number(tree: Tree, tmp_path: Path, nvml: Path) -> None:
    """DRAM that is gone in the middle of the window has no energy, is named in `total`, and flagged."""
    tree.at_work = lambda: tree.lose_dram() if "window" in phases(tmp_path) else None
    session = Session(tmp_path, nvml, [], "window.seconds=2", powercap=tree.root, conftest=WATCH_PHASES)
    energy_j = session.measurement["energy_j"]
    assert energy_j["dram"]["value"] is None
    assert energy_j["total"]["parts"] == ["cpu"]
    assert energy_j["total"]["note"].startswith("without dram: ")
    assert energy_j["total"]["value"] == energy_j["cpu"]["value"]
    assert flags_of_meters(session.measurement) == {"reading_failed"}


def test_without_permission_the_result_names_the_remedy(tree: Tree, tmp_path: Path, nvml: Path) -> None:
    """Counters for root alone: modelled energy, which says why, and no success where energy is required."""
    tree.stop()
    for file in tree.root.rglob("energy_uj"):
        file.chmod(0)
        if os.geteuid() == 0:
            os.chown(file, SOMEBODY, SOMEBODY)
    session = Session(
        tmp_path,
        nvml,
        [],
        "window.seconds=2",
        powercap=tree.root,
        options=["--campaign-require=measured"],
        under=["unshare", "--map-root-user"] if os.geteuid() == 0 else [],
    )
    assert session.result["failure"]["kind"] == "not_measured"
    assert "sudo chmod a+r" in session.result["failure"]["message"]
