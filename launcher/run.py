"""Run a program of this repository beside ComfyUI: ``python -m launcher.run demo.train_vae ...``.

ComfyUI's Python runs this; the variable COMFYUI_PATH says where ComfyUI is. The program is a module with a function
``main`` that reads ``sys.argv``.
"""

from __future__ import annotations

import importlib
import os
import sys

from .pack import import_as_package


def main() -> None:
    sys.path.insert(0, os.environ["COMFYUI_PATH"])  # before this repository, whose `nodes` is another one
    module = sys.argv.pop(1)
    package = import_as_package()
    importlib.import_module(f"{package}.{module}").main()


if __name__ == "__main__":
    main()
