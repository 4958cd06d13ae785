"""Which pack this is, and where it lies."""

from pathlib import Path

# The name of the folder under which ComfyUI gets to see the checkout, whatever that is called.
PACK_NAME = "comfyui-animatediff-loom"
# Not resolved: a checkout that is linked into a custom_nodes/ folder lies there.
PACK_ROOT = Path(__file__).absolute().parent.parent
