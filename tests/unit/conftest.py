"""How the property-based tests run. Not in `tests/conftest.py`, which a campaign of this repository loads too."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("llem", deadline=None)  # machines of CI are busy, and no test is about time
settings.load_profile("llem")
