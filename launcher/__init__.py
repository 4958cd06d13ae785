"""What ``loom.py`` does: find or set up ComfyUI and a Python for it, run it, and talk to it.

Standard library only, but for the parts that ComfyUI's own Python runs: ``client``, ``demo``
(aiohttp, Pillow) and ``run``, which starts what needs torch and ComfyUI.
"""
