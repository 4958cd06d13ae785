"""What it takes to load a motion model: against reading the same file's tensors and nothing more, in one run.

    python3 loom.py run benchmarks.loading [--repeats 3] [--folder FOLDER]

A full-size v2 file, 1.8 GB in float32 and 0.9 GB in float16, is read by Loom's loader, which checks every value and builds
the network, and by safetensors' ``load_file``, each in a process of its own, in turns; the best of the turns counts. As
``load_file`` only maps the file into memory, its tensors are summed once, so that the file is really read.

- seconds: of the reading, with the file in the system's cache.
- processor: seconds that the processor worked on it, which depends less on what else the machine does.
- resident: the most that the process grew by, mapped parts of the file included, which the system takes back at need.
- own: the most that it grew by without them; for Loom, that is the network.

Weights are kept in the dtype of the file, as on a graphics card.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import full_size  # first: it chooses the CPU where there is no graphics card  # isort: skip

import comfy.cli_args
import psutil
import torch
from safetensors.torch import load_file

from ..launcher.pack import PACK_ROOT
from ..motion_models import checkpoint
from ..motion_models.config import Family, MotionModelConfig
from ..motion_models.recognise import expected_shapes
from ..nodes.host.files.loading import load_motion_model

DTYPES = {"float32": torch.float32, "float16": torch.float16}


def read_plainly(path: str) -> object:
    tensors = load_file(path)
    return tensors, [tensor.sum(dtype=torch.float32) for tensor in tensors.values()]


READERS: dict[str, Callable[[str], object]] = {"Loom": load_motion_model, "load_file": read_plainly}


def measure(reader: str, path: str) -> dict[str, float]:
    """Seconds of both kinds, and gigabytes that this process grows by at most."""
    process, running = psutil.Process(), threading.Event()
    grown = {"resident": 0.0, "own": 0.0}

    def memory() -> dict[str, int]:
        info = process.memory_info()
        return {"resident": info.rss, "own": info.rss - getattr(info, "shared", 0)}

    before = memory()

    def watch() -> None:
        while not running.is_set():
            for name, size in memory().items():
                grown[name] = max(grown[name], (size - before[name]) / 1e9)
            running.wait(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, start_processor = time.perf_counter(), time.process_time()
    kept = READERS[reader](path)
    seconds, processor = time.perf_counter() - start, time.process_time() - start_processor
    running.set()
    watcher.join()
    del kept
    return {"seconds": seconds, "processor": processor, **grown}


def in_a_process(reader: str, dtype: str, path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "launcher.run", "benchmarks.loading", "--read", reader, str(path), dtype]
    return json.loads(subprocess.run(command, cwd=PACK_ROOT, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--channels", type=int, default=full_size.FULL_WIDTH, help="of the outermost level (%(default)s, full size)")
    parser.add_argument("--folder", type=Path, help="where to put the files; default: a temporary folder")
    parser.add_argument("--read", nargs=3, metavar=("READER", "PATH", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        reader, path, dtype = options.read
        comfy.cli_args.args.fp16_unet = dtype == "float16"  # on a CPU ComfyUI would keep float32
        print(json.dumps(measure(reader, path)))
        return
    config = MotionModelConfig(Family.V2, full_size.widths(options.channels), has_mid_block=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for dtype in options.dtypes:
            path = Path(folder, f"v2_{dtype}.safetensors")
            weights = {name: torch.full(shape, 0.01, dtype=DTYPES[dtype]) for name, shape in expected_shapes(config).items()}
            checkpoint.save(path, config, weights)
            del weights
            turns = [{reader: in_a_process(reader, dtype, path) for reader in READERS} for _ in range(options.repeats)]
            best = {reader: {name: min(turn[reader][name] for turn in turns) for name in turns[0][reader]} for reader in READERS}
            print(f"{path.name}: {path.stat().st_size / 1e9:.2f} GB")
            for name, value in best["Loom"].items():
                unit, plain = "s" if name in ("seconds", "processor") else "GB", best["load_file"][name]
                ratio = f", ratio {value / plain:.2f}" if name != "own" else ""
                print(f"  {name:9}: Loom {value:.2f} {unit}, load_file {plain:.2f} {unit}{ratio}", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
