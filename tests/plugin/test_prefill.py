"""The second window: the energy of prefill, and of decode as what the windows differ by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripted import Session
from standin.build import Gpu, uuid, write_zone
from standin.curves import ramp

PREFILL_W, DECODE_W = 300.0, 50.0
TOKEN_S = 0.02

PROMPTS, BATCH, PASSES = 20, 5, 3
INPUT_TOKENS, OUTPUT_TOKENS = 4, 4
"""As `scripted.CAMPAIGN` has them."""

SETTINGS = (
    "defaults.prefill.enabled=true",
    f"defaults.abacus.batch_size={BATCH}",
    f"defaults.abacus.token_ms={1e3 * TOKEN_S}",
    f"window.passes={PASSES}",
)
RATES = {"prefill_tokens_per_second"}
ENERGIES = {
    "prefill_energy_per_prompt_token_j",
    "prefill_energy_per_request_j",
    "decode_energy_per_output_token_j",
    "decode_energy_per_request_j",
}

RISING = Gpu(ramp(50, 2050, 0, 100, step_s=0.1))
DOMAIN = f"gpu:{uuid(0)}"


def two_levels(
    folder: Path, nvml: Path, monkeypatch: pytest.MonkeyPatch, decode_w: float, *settings: str
) -> Session:
    """Measure an engine that draws `PREFILL_W` for the first token of a batch and `decode_w` for the others."""
    counter = write_zone(folder / "powercap" / "intel-rapl" / "intel-rapl:0", "package-0", 0)
    monkeypatch.setenv("ABACUS_POWER", f"{counter} {PREFILL_W} {decode_w}")
    return Session(folder, nvml, [], *SETTINGS, *settings, powercap=folder / "powercap")


def values(measurement: dict[str, Any]) -> dict[str, Any]:
    return {name: found["value"] for name, found in measurement["metrics"].items()}


@pytest.mark.key("defaults.prefill.enabled")
def test_prefill_and_decode_have_each_their_power(
    tmp_path: Path, nvml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two levels of power each phase gets its own, both add up to the request's; without the key there are none."""
    session = two_levels(tmp_path, nvml, monkeypatch, DECODE_W)
    found = values(session.measurement)
    prefill_j, step_j = PREFILL_W * TOKEN_S / BATCH, DECODE_W * TOKEN_S / BATCH
    assert found["prefill_energy_per_request_j"] == pytest.approx(prefill_j)
    assert found["prefill_energy_per_prompt_token_j"] == pytest.approx(prefill_j / INPUT_TOKENS)
    assert found["decode_energy_per_output_token_j"] == pytest.approx(step_j)
    assert found["decode_energy_per_request_j"] == pytest.approx((OUTPUT_TOKENS - 1) * step_j)
    parts = ("prefill_energy_per_request_j", "decode_energy_per_request_j")
    assert sum(found[part] for part in parts) == pytest.approx(found["energy_per_request_j"])
    sources = {session.measurement["metrics"][name]["source"] for name in ENERGIES}
    assert sources == {"rapl"}
    (tmp_path / "without").mkdir()
    without = Session(tmp_path / "without", nvml, [], "defaults.prefill.enabled=false")
    assert without.measurement["prefill"] is None
    assert not (ENERGIES | RATES) & without.measurement["metrics"].keys()


@pytest.fixture(scope="module")
def rising(tmp_path_factory: pytest.TempPathFactory, nvml: Path) -> Session:
    """Two windows of half a second on a device whose power says when it was measured."""
    folder = tmp_path_factory.mktemp("rising")
    return Session(folder, nvml, [RISING], *SETTINGS, "window.seconds=0.5", "defaults.warmup.enabled=true")


def test_the_second_window_is_metered_like_the_first(rising: Session) -> None:
    """Its energy is that of the curve between edges of its own, which lie behind those of the first window."""
    first, second = rising.measurement, rising.measurement["prefill"]
    begin_s, end_s = second["energy_edges_s"][DOMAIN]
    assert first["energy_edges_s"][DOMAIN][1] < begin_s
    truth_j = RISING.energy_j(begin_s - rising.epoch_s, end_s - rising.epoch_s)
    energy = second["energy_j"]["total"]
    assert energy["source"] == "nvml_counter"
    assert energy["value"] == pytest.approx(truth_j, abs=max(0.02 * truth_j, energy["resolution"]))
    for window in (first, second):
        assert window["energy_window_s"] >= window["window_s"] >= 0.5


def test_the_second_window_serves_the_same_prompts_for_one_token_each(rising: Session) -> None:
    """Number and lengths of its prompts are those of the first window, and the rate is over its own time."""
    first, second = rising.measurement, rising.measurement["prefill"]
    assert second["output_tokens"] == second["requests"] == PROMPTS * second["passes"]
    assert second["prompt_tokens"] == INPUT_TOKENS * second["requests"]
    assert first["output_tokens"] == OUTPUT_TOKENS * first["requests"]
    rate = values(first)["prefill_tokens_per_second"]
    assert rate == pytest.approx(second["prompt_tokens"] / second["window_s"])


def test_a_difference_below_the_resolution_is_no_number(
    tmp_path: Path, nvml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where decode adds less than the meter can show, its energy is null with the reason, and prefill keeps its own."""
    found = two_levels(tmp_path, nvml, monkeypatch, 0.0).measurement["metrics"]
    assert found["prefill_energy_per_request_j"]["value"] == pytest.approx(PREFILL_W * TOKEN_S / BATCH)
    for name in ("decode_energy_per_request_j", "decode_energy_per_output_token_j"):
        assert found[name]["value"] is None
        assert "not above the resolution" in found[name]["note"]


def test_a_load_has_no_second_window(tmp_path: Path, nvml: Path) -> None:
    """Under load the key has no effect, which the header says."""
    load = ("defaults.load.mode=closed", "defaults.load.concurrency=2", "defaults.load.requests=8")
    session = Session(tmp_path, nvml, [Gpu()], *SETTINGS, *load)
    assert session.measurement["prefill"] is None
    assert "prefill.enabled has no effect but with load.mode: batch" in session.done.stdout
