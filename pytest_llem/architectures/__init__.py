"""WHAT A MODEL IS MADE OF, from its `config.json` alone: weights, heads, the memory that both take. No libraries."""

from pytest_llem.architectures.decoder import Architecture, Attention, Part, architecture
from pytest_llem.architectures.families import FAMILIES, UnknownArchitectureError

__all__ = [
    "FAMILIES",
    "Architecture",
    "Attention",
    "Part",
    "UnknownArchitectureError",
    "architecture",
]
