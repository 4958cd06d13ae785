"""The demo world: clips of coloured shapes that move, and tiny models trained on them.

Needs ComfyUI and torch; ``demo/README.md`` has the commands. Letters used in shapes: ``f`` frames, ``h w`` height and width.
"""
