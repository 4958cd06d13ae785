"""The networks of AnimateDiff and their files, in plain torch: nothing here knows ComfyUI.

Letters used in shapes: ``b`` batch of conds (times clips), ``f`` frames, ``c`` channels, ``h w`` latent height and
width, ``n`` pixels ``h*w``, ``d`` head width. The UNet's side is ``(b f) c h w``, the temporal side ``(b n) f c``.
"""
