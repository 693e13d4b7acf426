from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.meters import rapl
from pytest_llem.meters.base import Clock
from standin.build import write_zone

Open = Callable[..., rapl.RaplMeter]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a powercap tree as of a server with two packages, their DRAM and a platform zone."""
    for package in (0, 1):
        zone = tmp_path / "intel-rapl" / f"intel-rapl:{package}"
        write_zone(zone, f"package-{package}", 1_000_000)
        write_zone(zone / f"intel-rapl:{package}:0", "core", 1_000_000)
        write_zone(zone / f"intel-rapl:{package}:1", "dram", 1_000_000)
    write_zone(tmp_path / "intel-rapl" / "intel-rapl:2", "psys", 1_000_000)
    write_zone(tmp_path / "intel-rapl-mmio" / "intel-rapl-mmio:0", "package-0", 1_000_000)
    return tmp_path


@pytest.fixture
def opened() -> Iterator[Open]:
    """Return a function that opens a meter which the test need not close."""
    with ExitStack() as meters:

        def opened(root: Path, clock: Clock = time) -> rapl.RaplMeter:
            meter = rapl.open_meter(root, clock)
            assert meter is not None
            meters.callback(meter.close)
            return meter

        yield opened


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def monotonic(self) -> float:
        return self.at_s

    def sleep(self, seconds: float, /) -> None:
        self.at_s += seconds


def advance(root: Path, joules: float) -> None:
    """Let every counter of a tree count on."""
    for file in root.rglob("energy_uj"):
        file.write_text(str(int(file.read_text()) + round(joules * 1e6)))


def test_packages_and_dram_are_summed_without_their_parts_and_the_platform(opened: Open, root: Path) -> None:
    """`cpu` is the sum of packages, each once, and `dram` that of their DRAM; nothing is counted twice."""
    meter = opened(root)
    begin = meter.read()
    advance(root, 3.0)
    energy = meter.between(begin, meter.read())
    assert {domain: quantity.value for domain, quantity in energy.items()} == {"cpu": 6.0, "dram": 6.0}
    assert {(quantity.unit, quantity.source) for quantity in energy.values()} == {("J", "rapl")}


def test_the_flat_class_folder_reads_like_the_device_tree(opened: Open, root: Path, tmp_path: Path) -> None:
    """A root laid out like /sys/class/powercap, all zones as links side by side, gives the same sums."""
    flat = tmp_path / "class"
    flat.mkdir()
    for zone in list(root.rglob("intel-rapl:*")):
        (flat / zone.name).symlink_to(zone)
    meter = opened(flat)
    begin = meter.read()
    advance(root, 3.0)
    energy = meter.between(begin, meter.read())
    assert {domain: quantity.value for domain, quantity in energy.items()} == {"cpu": 6.0, "dram": 6.0}


def test_a_processor_without_dram_counter_has_no_dram_domain(opened: Open, tmp_path: Path) -> None:
    """Where no zone counts DRAM, the domain is absent rather than 0."""
    write_zone(tmp_path / "intel-rapl" / "intel-rapl:0", "package-0", 0)
    assert opened(tmp_path).read().energy_j.keys() == {"cpu"}


@given(largest_uj=st.integers(10, 2**40), fractions=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_wraps_are_carried_on(largest_uj: int, fractions: list[float]) -> None:
    """However often the counter wraps, the sum is right while it wraps at most once between two readings."""
    clock = Hand()
    with tempfile.TemporaryDirectory() as folder:
        counter = write_zone(Path(folder) / "intel-rapl:0", "package-0", largest_uj // 2, largest_uj)
        meter = rapl.open_meter(Path(folder), clock)
        assert meter
        begin_j = meter.read().energy_j["cpu"]
        total_uj = largest_uj // 2
        for fraction in fractions:
            total_uj += round(fraction * largest_uj)
            clock.sleep(fraction * largest_uj / 1e6 / rapl.MOST_W)
            counter.write_text(str(total_uj % (largest_uj + 1)))
            end_j = meter.read().energy_j["cpu"]
        meter.close()
    assert end_j - begin_j == pytest.approx((total_uj - largest_uj // 2) / 1e6, abs=1e-9)


def test_the_meter_catches_wraps_by_itself(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two wraps between the caller's readings are both counted, since the meter reads in between."""
    monkeypatch.setattr(rapl, "CATCH_UP_S", 0.001)
    counter = write_zone(tmp_path / "intel-rapl:0", "package-0", 900_000, 999_999)
    meter = opened(tmp_path)
    begin = meter.read()
    for value_uj in (500_000, 100_000, 900_000):  # 0.6 J, 0.6 J and 0.8 J on
        staged = tmp_path / "staged"
        staged.write_text(str(value_uj))
        staged.replace(counter)
        deadline_s = time.monotonic() + 30
        while _last_uj(meter) != value_uj and time.monotonic() < deadline_s:
            time.sleep(0.001)
    assert meter.between(begin, meter.read())["cpu"].value == pytest.approx(2.0)


def _last_uj(meter: rapl.RaplMeter) -> int | None:
    last = meter._zones["cpu"][0]._last
    return last.energy_uj if last else None


@pytest.mark.parametrize(("before_j", "after_j", "wraps"), [(100_100, 50, False), (262_143, 50, True)])
def test_a_counter_that_starts_anew_is_no_wrap(
    opened: Open, tmp_path: Path, before_j: int, after_j: int, wraps: bool
) -> None:
    """A fall that no processor could draw the energy of in the time is a reset: no number, flagged as such."""
    clock = Hand()
    counter = write_zone(tmp_path / "intel-rapl:0", "package-0", before_j * 10**6)
    meter = opened(tmp_path, clock)
    begin = meter.read()
    clock.sleep(0.2)
    counter.write_text(str(after_j * 10**6))
    end = meter.read()
    energy = meter.between(begin, end)["cpu"]
    assert energy.value == (pytest.approx(50.3, abs=0.1) if wraps else None)
    assert ("fell by 100050 J" in str(energy.note)) is not wraps
    assert meter.flags(begin, end) == (set() if wraps else {"counter_reset"})
    clock.sleep(0.2)
    counter.write_text(str((after_j + 20) * 10**6))
    assert meter.between(end, meter.read())["cpu"].value == 20  # counted again from the reset on


def test_a_zone_that_vanishes_is_unavailable_with_the_reason(opened: Open, root: Path) -> None:
    """A counter that is gone at the end takes its domain's number with it, and leaves the other domain's."""
    meter = opened(root)
    begin = meter.read()
    advance(root, 1.0)
    (root / "intel-rapl/intel-rapl:1/energy_uj").unlink()
    energy = meter.between(begin, meter.read())
    assert energy["cpu"].value is None
    assert "No such file" in str(energy["cpu"].note)
    assert energy["dram"].value == 2.0


def test_a_zone_that_vanishes_is_flagged(opened: Open, root: Path) -> None:
    """A counter that could be read at first and then not is a failed reading."""
    meter = opened(root)
    begin = meter.read()
    advance(root, 1.0)
    assert meter.flags(begin, meter.read()) == set()
    (root / "intel-rapl/intel-rapl:1/energy_uj").unlink()
    assert meter.flags(begin, meter.read()) == {"reading_failed"}


def test_a_counter_that_never_worked_is_no_flag(opened: Open, root: Path) -> None:
    """What could not be read from the start is unavailable in every experiment, and no news in any."""
    (root / "intel-rapl/intel-rapl:1/energy_uj").unlink()
    meter = opened(root)
    assert meter.flags(meter.read(), meter.read()) == {
        "counter_stuck"
    }  # of DRAM, which did not count in between
    advance(root, 1.0)
    begin = meter.read()
    advance(root, 1.0)
    assert meter.flags(begin, meter.read()) == set()


def test_a_zone_that_comes_back_is_no_wrap(opened: Open, root: Path) -> None:
    """A counter that was away and started anew is no number for that window, and counts again in the next one."""
    meter = opened(root)
    counter = root / "intel-rapl/intel-rapl:1/energy_uj"
    begin = meter.read()
    counter.unlink()
    meter.read()  # as the meter does every 30 s
    counter.write_text("0")
    end = meter.read()
    energy = meter.between(begin, end)["cpu"]
    assert energy.value is None
    assert "not counted all through the window" in str(energy.note)
    assert "No such file" in str(energy.note)
    assert "reading_failed" in meter.flags(begin, end)
    advance(root, 3.0)
    assert meter.between(end, meter.read())["cpu"].value == 6.0


def test_a_trace_gets_the_counters(opened: Open, root: Path) -> None:
    """A sample is the energy so far of packages and DRAM; a domain that fails has none."""
    meter = opened(root)
    advance(root, 1.5)
    assert {sample.domain: sample.energy_j for sample in meter.sample()} == {"cpu": 3.0, "dram": 3.0}
    (root / "intel-rapl/intel-rapl:1/energy_uj").unlink()
    assert [sample.domain for sample in meter.sample()] == ["dram"]


def test_a_counter_that_is_no_number_is_unavailable(opened: Open, root: Path) -> None:
    """A counter file with other content than a number gives a reason instead of an exception."""
    (root / "intel-rapl/intel-rapl:0/energy_uj").write_text("<not counted>\n")
    assert "could not be read" in opened(root).read().errors["cpu"]


def test_a_counter_without_permission_names_the_fix(root: Path) -> None:
    """For a user who may not read the counters, the reason is the command that helps."""
    for file in root.rglob("energy_uj"):
        file.chmod(0o400)
    root.chmod(0o755)
    read_as_nobody = (
        "import os; from pathlib import Path; from pytest_llem.meters import rapl\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "else: [file.chmod(0) for file in Path('.').rglob('energy_uj')]\n"
        "meter = rapl.open_meter(Path('.')); print(meter.read().errors['cpu']); print(meter.describe())"
    )
    # The child's own folder can be entered even where the folders above it cannot.
    child = subprocess.run(
        [sys.executable, "-c", read_as_nobody], cwd=root, stdout=subprocess.PIPE, text=True, check=True
    )
    reason, described = child.stdout.splitlines()
    assert "sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj" in reason
    assert reason in described


def test_a_machine_without_rapl_has_no_meter(tmp_path: Path) -> None:
    """Without a package zone, or without the tree itself, there is no meter and no error."""
    write_zone(tmp_path / "intel-rapl" / "intel-rapl:0", "psys", 0)
    assert rapl.open_meter(tmp_path) is None
    assert rapl.open_meter(tmp_path / "nowhere") is None
