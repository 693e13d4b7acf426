"""What the journals of a run say of its services and GPUs: checks, restarts, services that are lost, residents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """A service that was given up.

    Attributes:
        cycle: of the experiment before which that happened.
        problem: one sentence.
    """

    cycle: int
    problem: str


@dataclass
class HealthTally:
    """The health of a run's services, over all its sessions.

    Attributes:
        checks: looks at a service.
        restarts: of unhealthy and lost services, by backend; the new ones of a cold start are not counted.
        unhealthy: by backend, those that are given up; a new session begins without any.
        memory_not_freed: ends of an engine after which its GPU memory was not free in time.
        unavailable_s: time lost in waiting for a Docker engine or host.
        residents: who used the GPUs before a session began, in words.
    """

    checks: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    unhealthy: dict[str, Unhealthy] = field(default_factory=dict)
    memory_not_freed: int = 0
    unavailable_s: float = 0.0
    residents: list[str] = field(default_factory=list)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event; those that are not about health change nothing.

        Raises:
            KeyError: the event lacks what its kind must have.
        """
        match event["event"]:
            case "opened":
                self.unhealthy.clear()
            case "health_check":
                self.checks += 1
            case "restart":
                backend = event["backend"]
                self.restarts[backend] = self.restarts.get(backend, 0) + 1
            case "unhealthy":
                self.unhealthy[event["backend"]] = Unhealthy(event["cycle"], event["problem"])
            case "recovered":
                self.unhealthy.pop(event["backend"], None)
            case "memory_not_freed":
                self.memory_not_freed += 1
            case "unavailable":
                self.unavailable_s += event["waited_s"]
            case "residents":
                self.residents += [one for one in event["processes"] if one not in self.residents]
