"""`environment.json` beside the results: every machine and software that a run has seen, by hash."""

from __future__ import annotations

import hashlib
import json

from pytest_llem.records import Environment
from pytest_llem.state.results import ResultStore

ENVIRONMENT_FILE = "environment.json"


class Environments:
    """The environments of one run; results name theirs by hash."""

    def __init__(self, results: ResultStore) -> None:
        self._results = results
        path = results.folder / ENVIRONMENT_FILE
        self._known = json.loads(path.read_text()) if path.exists() else {}

    def add(self, environment: Environment) -> str:
        """Write the environment if it is new, and return its hash (12 hex).

        Raises:
            StorageError: the disk refuses.
        """
        text = environment.model_dump_json()
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        if name not in self._known:
            self._known[name] = json.loads(text)
            self._results.write_json(ENVIRONMENT_FILE, self._known)
        return name
