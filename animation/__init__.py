"""What happens over frames and over steps. Pure: torch, never ComfyUI.

Letters used in shapes: ``f`` frames, ``c`` channels, ``h w`` height and width.
"""
