"""Run a program of this repository beside ComfyUI: ``python launcher/run.py demo.train_vae ...``.

ComfyUI's Python runs this; the variable COMFYUI_PATH says where ComfyUI is. The program is a module with a function
``main`` that reads ``sys.argv``. It is started by path: PYTHONPATH can't hold a folder with a colon in its name, and
ComfyUI's portable Python for Windows ignores it.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path

_FOLDER = Path(__file__).absolute().parent


def main() -> None:
    module = sys.argv.pop(1)
    sys.argv[0] = f"loom.py run {module}"  # what argparse shows
    # Our modules as `launcher.server`, never as `server`: that name is ComfyUI's.
    sys.path[:] = [str(_FOLDER.parent), *(path for path in sys.path if path != str(_FOLDER))]
    if comfyui := os.environ.get("COMFYUI_PATH"):
        sys.path.insert(0, comfyui)  # before this repository, whose `nodes` is another one
    package = importlib.import_module("launcher.pack").import_as_package()
    program = importlib.import_module(f"{package}.{module}")
    errors = importlib.import_module(f"{package}.launcher.errors")
    processes = importlib.import_module(f"{package}.launcher.processes")
    processes.open_standard_streams()
    processes.exit_on_signals()
    sys.exit(errors.exit_code(program.main))


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until PyTorch is imported: Ctrl-C ends this without a traceback
    main()
