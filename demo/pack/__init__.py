"""A pack without nodes, which ``loom.py serve`` gives to ComfyUI beside Loom, so that a URL can open the demo's workflow.

The editor opens templates by URL, but only of packs, and only by names without spaces. In Loom's own templates this one would
stand before users who don't have the demo's models.
"""

from __future__ import annotations

NODE_CLASS_MAPPINGS: dict[str, type] = {}
