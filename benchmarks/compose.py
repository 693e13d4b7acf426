"""What containers cost: the dispatch by exec, the share of time inside windows, the notice of a killed container.

Needs a Docker engine and the image of the pytorch service (`docker compose build pytorch`).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from pairs import heading
from pytest_llem.backends.registry import registered
from pytest_llem.campaign.schema import Service
from pytest_llem.executors.compose.conversation import ExecConversation
from pytest_llem.executors.compose.executor import ComposeExecutor, ComposeSetup
from pytest_llem.executors.compose.files import PACKAGED
from pytest_llem.executors.compose.worker import ContainerWorker
from pytest_llem.worker.protocol import Hello

ROOT = Path(__file__).parents[1]
PAIRS = 40
KILLS = 5
BACKEND = "pytorch"

CAMPAIGN = f"""\
campaign_name: busy
model: random:{ROOT / "campaigns" / "models" / "tiny-llama"}
defaults:
  {{max_output_tokens: 8, num_input_prompts: 16, fp_precision: float32, warmup: {{enabled: false}},
   pytorch: {{num_threads: 1, batch_size: 8}}}}
grid:
  backends: [{BACKEND}]
  shared: {{max_input_tokens: [8, 16, 24, 32, 40]}}
execution:
  {{cycles: 4, config_gap_seconds: 0, cycle_gap_seconds: 0, conditioning: false, recycle_cycles: 0}}
window: {{seconds: 1}}
"""


def timed_ms(what: Any) -> float:
    begin_s = time.perf_counter()
    what()
    return 1e3 * (time.perf_counter() - begin_s)


def exec_true(container: str) -> None:
    subprocess.run(["docker", "exec", container, "true"], check=True)


def exec_hello(container: str) -> None:
    with closing(ExecConversation(container, Hello().model_dump_json().encode())) as conversation:
        assert b"welcome" in next(iter(conversation))


def dispatch(container: str) -> None:
    """Pair a request by exec with the smallest exec there is."""
    floor_ms, ours_ms = [], []
    for _ in range(PAIRS):
        floor_ms.append(timed_ms(lambda: exec_true(container)))
        ours_ms.append(timed_ms(lambda: exec_hello(container)))
    added_ms = statistics.median(ours - floor for ours, floor in zip(ours_ms, floor_ms, strict=True))
    print(f"docker exec true  {statistics.median(floor_ms):7.1f} ms, median of {PAIRS}")
    print(
        f"request by exec   {statistics.median(ours_ms):7.1f} ms, {added_ms:+.1f} ms in pairs (at most +40)"
    )


def notice(executor: ComposeExecutor) -> None:
    """Kill the container in the middle of a request and time how long the host takes to see it."""
    noticed_ms = []
    for _ in range(KILLS):
        executor.service(BACKEND)
        worker = executor._workers[BACKEND]  # noqa: SLF001
        assert isinstance(worker, ContainerWorker)
        begin_s = time.perf_counter()
        subprocess.run(["docker", "kill", worker.container], check=True, capture_output=True)
        while worker.alive:
            time.sleep(0.001)
        noticed_ms.append(1e3 * (time.perf_counter() - begin_s))
    print(
        f"killed container  {max(noticed_ms):7.1f} ms from `docker kill` to notice, worst of {KILLS} (at most 2,000)"
    )


def inside_windows() -> None:
    """Measure 20 experiments of one engine key: the share of the time that is inside windows."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "grid.yaml").write_text(CAMPAIGN)
        (root / "pytest.ini").write_text("[pytest]\n")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--campaign=grid.yaml",
            "--campaign-executor=compose",
            "-q",
        ]
        subprocess.run(command, cwd=root, check=True, capture_output=True)
        found = [json.loads(path.read_text()) for path in root.rglob("attempt-*.json")]
    results = sorted(found, key=lambda result: result["started_at"])
    begin, end = (datetime.fromisoformat(t) for t in (results[0]["started_at"], results[-1]["completed_at"]))
    windows_s = sum(result["measurement"]["window_s"] for result in results)
    share = windows_s / (end - begin).total_seconds()
    print(f"inside windows    {100 * share:7.1f} % of {len(results)} experiments (at least 85)")


def main() -> None:
    heading("containers")
    with tempfile.TemporaryDirectory() as folder:
        setup = ComposeSetup(compose_files=[PACKAGED], project_name="llem-benchmark")
        executor = ComposeExecutor(
            setup,
            registered(),
            {BACKEND: Service()},
            start_timeout_s=300,
            rootdir=Path(folder),
            session_id="benchmark",
            gpus=lambda _: None,
            inputs=[],
            say=print,
        )
        problems = executor.problems([BACKEND])
        if problems:
            sys.exit("\n".join(problems))
        try:
            started_ms = timed_ms(lambda: executor.service(BACKEND))
            print(f"service           {started_ms / 1e3:7.1f} s until it answers, imports included")
            worker = executor._workers[BACKEND]  # noqa: SLF001
            assert isinstance(worker, ContainerWorker)
            dispatch(worker.container)
            notice(executor)
        finally:
            print(f"teardown          {timed_ms(executor.close) / 1e3:7.2f} s")
    inside_windows()


if __name__ == "__main__":
    main()
