"""Tell a campaign from other YAML files by a glance at its text; imports the standard library alone."""

from __future__ import annotations

import re
from pathlib import Path

_GLANCE_BYTES = 1 << 20
_CAMPAIGN_NAME = re.compile(rb"""^(?:\xef\xbb\xbf)?["']?campaign_name["']?[ \t]*:(?:\s|\Z)""", re.MULTILINE)


def looks_like_campaign(path: Path) -> bool:
    """Return whether a line of the file starts with the key `campaign_name`; never raises."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _CAMPAIGN_NAME.search(file.read(_GLANCE_BYTES)) is not None
    except (OSError, ValueError):
        return False
