"""A real ComfyUI on the CPU, as in tests/host, with all threads: these networks are of full width."""

from __future__ import annotations

import os
import sys

collect_ignore_glob: list[str] = []
if os.environ.get("COMFYUI_PATH"):
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
else:
    collect_ignore_glob.append("test_*.py")
