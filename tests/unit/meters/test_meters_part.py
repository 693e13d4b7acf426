"""Meters of some of a machine's GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from standin.build import Gpu, uuid

SECOND = f"gpu:{uuid(1)}"
SCRIPT = [Gpu(power_w=((0.0, 100.0),)), Gpu(power_w=((0.0, 300.0),)), Gpu(power_w=((0.0, 500.0),))]

PART = f"""
    whole = choose.Meters(choose.open_meters(engine_pids=list))
    part = whole.of(["{uuid(1)}"])
    begin = part.read(at_tick=True)
    time.sleep(0.5)
    end = part.read(at_tick=True)
    sampled = sorted({{sample.domain for sample in part.sample()}})
    part.close()
    still_open = len(whole.sample())
    show(energy=part.between(begin, end), power=part.power_w(begin, end), flags=part.flags(begin, end),
         sampled=sampled, still_open=still_open)
"""


@pytest.mark.parametrize("counter", [True, False], ids=["counter", "integral"])
def test_only_the_named_gpu_is_counted(play: Any, counter: bool) -> None:
    """Of three GPUs the sums, the samples and the flags are those of the one that is named."""
    first, second, third = SCRIPT
    lost = Gpu(power_w=third.power_w, counter=counter, lost_after_s=1.5)
    gpus = [Gpu(power_w=gpu.power_w, counter=counter) for gpu in (first, second)]
    shown = play(PART, *gpus, lost)
    devices = [domain for domain in shown["energy"] if domain.startswith("gpu:")]
    assert devices == shown["sampled"] == [SECOND]
    assert shown["power"]["gpu"]["value"] == pytest.approx(300, rel=0.02)
    assert shown["flags"] == []
    assert shown["still_open"] == 3


def test_without_gpus_there_is_no_energy_of_gpus(play: Any) -> None:
    """For an experiment on the CPU the machine's GPUs are left out."""
    shown = play(PART.replace(f'["{uuid(1)}"]', "[]"), Gpu())
    assert shown["energy"]["gpu"]["value"] is None
    assert shown["sampled"] == []
