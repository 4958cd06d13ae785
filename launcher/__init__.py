"""What ``loom.py`` does: find or make ComfyUI and a Python for it, run it, talk to it.

Standard library only, but for the parts that ComfyUI's own Python runs: ``client``, ``demo``
(aiohttp, Pillow) and ``random_models`` (torch, ComfyUI).
"""

from pathlib import Path

PACK_NAME = "comfyui-animatediff-loom"
PACK_ROOT = Path(__file__).absolute().parent.parent
