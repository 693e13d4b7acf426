"""Telling a campaign by a glance at its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.campaign.sniff import looks_like_campaign


@pytest.mark.parametrize(
    ("content", "campaign"),
    [
        (b"campaign_name: x\n", True),
        (b"# first\nmodel: y\ncampaign_name:\n", True),
        (b'"campaign_name": x\n', True),
        (b"\xef\xbb\xbfcampaign_name: x\n", True),
        (b"nested:\n  campaign_name: x\n", False),
        (b"campaign_names: x\n", False),
        (b"# campaign_name: x\n", False),
        (b"\xff\x00", False),
        (b"", False),
    ],
)
def test_a_campaign_is_told_by_its_name(tmp_path: Path, content: bytes, campaign: bool) -> None:
    """A file is a campaign if a line starts with the key `campaign_name`."""
    (tmp_path / "c.yaml").write_bytes(content)
    assert looks_like_campaign(tmp_path / "c.yaml") is campaign


@pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b", "x" * 5000])
def test_what_cannot_be_read_is_no_campaign(tmp_path: Path, name: str) -> None:
    """A glance at a path never raises."""
    assert looks_like_campaign(tmp_path / name) is False
