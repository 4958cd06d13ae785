"""Translates workflows made for other AnimateDiff packs into Loom's nodes; plain Python, without ComfyUI or torch."""
