"""WHAT HAS RUN: the journal of a run and the store of its results."""
