"""tensorrt_llm._tensorrt_engine: the LLM that compiles a model into an engine and runs that."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from .arguments import BuildConfig, TrtLlmArgs
from .calls import record
from .executor import mood
from .llmapi import BaseLLM


class LLM(BaseLLM):
    """A folder with `rank0.engine` is an engine; any other model is compiled first."""

    def __init__(self, model: str | Path, **arguments: Any) -> None:
        record("_tensorrt_engine.LLM", model=str(model), **arguments)
        args = TrtLlmArgs(model=str(model), **arguments)
        built = Path(model) / "rank0.engine"
        self._description: dict[str, Any] = _read(built) if built.is_file() else _compile(args)
        build = BuildConfig.model_validate(self._description["build_config"])
        args.build_config = build
        args.max_batch_size = min(args.max_batch_size, build.max_batch_size)
        self._begin(args)

    def save(self, engine_dir: str) -> None:
        """Write the engine's files."""
        record("save", engine_dir=engine_dir)
        folder = Path(engine_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self._description))
        (folder / "rank0.engine").write_bytes(b"engine")


def _read(engine: Path) -> dict[str, Any]:
    """Return what the description beside an engine says."""
    time.sleep(float(os.environ.get("TRTLLM_STANDIN_READ_S", "0")))
    description: dict[str, Any] = json.loads((engine.parent / "config.json").read_text())
    return description


def _compile(args: TrtLlmArgs) -> dict[str, Any]:
    """Return what the `config.json` of a compiled engine says (TensorRT-LLM checkpoint and engine format)."""
    _misbehave()
    time.sleep(float(os.environ.get("TRTLLM_STANDIN_BUILD_S", "0")))
    config = json.loads((Path(args.model) / "config.json").read_text())
    build = args.build_config or BuildConfig()
    build.max_seq_len = build.max_seq_len or config["max_position_embeddings"]
    return {
        "version": "1.2.1",
        "pretrained_config": {
            "dtype": args.dtype,
            "vocab_size": config["vocab_size"],
            "quantization": args.quant_config.model_dump(mode="json"),
            "mapping": {"tp_size": args.tensor_parallel_size, "pp_size": args.pipeline_parallel_size},
        },
        "build_config": build.model_dump(mode="json"),
    }


def _misbehave() -> None:
    match mood():
        case "refuse-build":
            raise ValueError("the stand-in refuses\nto build")
        case "oom-build":
            raise RuntimeError("CUDA error: out of memory")
        case "die-build":
            os._exit(5)
