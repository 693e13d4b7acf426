"""`environment.json` beside the results: every machine and software that a run has seen, by hash."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import Any

from pytest_llem.records import VOLATILE, Environment
from pytest_llem.state.results import DamagedFileError, ResultStore

ENVIRONMENT_FILE = "environment.json"


class Environments:
    """The environments of one run; results name theirs by hash.

    Args:
        results: the run's store.
        commit: of the campaign's repository; None outside of one.

    Raises:
        DamagedFileError: environment.json is not what was written.
    """

    def __init__(self, results: ResultStore, commit: str | None = None) -> None:
        self._results = results
        self._commit = commit
        self._known = self.known()
        self._unsaved = False

    def add(self, environment: Environment) -> str:
        """Write the environment if it is new and return its hash.

        Raises:
            StorageError: the disk refuses.
        """
        name = self.remember(environment)
        self.save()
        return name

    def remember(self, environment: Environment) -> str:
        """Return the hash of an environment, with what only this host knows of it; `save` writes it."""
        hosted = environment.model_copy(
            update={"hostname": environment.hostname or platform.node(), "git_commit": self._commit}
        )
        written = hosted.model_dump(mode="json")
        name = environment_hash(written)
        if name not in self._known:
            self._known[name] = written
            self._unsaved = True
        return name

    def save(self) -> None:
        """Write what is remembered and not on disk.

        Raises:
            StorageError: the disk refuses.
        """
        if self._unsaved:
            self._results.write_json(ENVIRONMENT_FILE, self._known)
            self._unsaved = False

    def known(self) -> dict[str, dict[str, Any]]:
        """Return the environments by hash as they are on disk, those that other processes wrote too.

        Raises:
            DamagedFileError: the file is not what was written.
        """
        path = self._results.folder / ENVIRONMENT_FILE
        try:
            known: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DamagedFileError(f"{path} is damaged: {error}; mend it, or remove it to go on") from error
        return known


def environment_hash(environment: dict[str, Any]) -> str:
    """Return 12 hex digits that are the same as long as nothing changes that could change a number."""
    text = json.dumps(_lasting(environment), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _lasting(value: Any) -> Any:
    """Leave out what is volatile, also in the devices."""
    if isinstance(value, dict):
        return {key: _lasting(one) for key, one in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [_lasting(one) for one in value]
    return value
