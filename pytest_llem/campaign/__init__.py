"""WHAT to run, as pure data: no pytest, no Docker, no torch."""
