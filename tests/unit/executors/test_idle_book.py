"""Which idle powers go with which order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pytest_llem.executors.idle_book import IdleBook
from pytest_llem.records import Idle, IdleKind, Quantity

BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
POWER = Quantity(value=60.0, unit="W", source="nvml_counter")


def idle(kind: IdleKind, minute: int = 0, gpu: str = "gpu:a", boot: str = "one") -> Idle:
    at = BEGIN + timedelta(minutes=minute)
    return Idle(kind=kind, measured_at=at, seconds=30, power_w={"total": POWER, gpu: POWER}, boot=boot)


def test_a_loaded_idle_power_is_its_backends() -> None:
    """Another backend hears of the bare idle power alone."""
    book = IdleBook()
    book.learn("pytorch", [idle("bare"), idle("loaded")])
    assert book.known("pytorch") == (idle("bare"), idle("loaded"))
    assert book.known("vllm") == (idle("bare"),)


def test_the_newest_replaces_the_older_one_of_its_devices() -> None:
    """Whatever the order in which they are learnt, the newest stays; other devices and boots have their own."""
    book = IdleBook()
    book.learn("pytorch", [idle("bare", 5), idle("bare", 1)])
    assert book.known("pytorch") == (idle("bare", 5),)
    book.learn("pytorch", [idle("bare", 9), idle("bare", 2, gpu="gpu:b"), idle("bare", 3, boot="two")])
    assert {found.measured_at.minute for found in book.known("pytorch")} == {9, 2, 3}
