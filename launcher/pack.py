"""Which pack this is, and where it lies."""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

# The name of the folder under which ComfyUI gets to see the checkout, whatever that is called.
PACK_NAME = "comfyui-animatediff-loom"
# Not resolved: a checkout that is linked into a custom_nodes/ folder lies there.
PACK_ROOT = Path(__file__).absolute().parent.parent
RUN = PACK_ROOT / "launcher" / "run.py"
PROGRAM_FOLDERS = ("benchmarks", "demo")


def programs() -> list[str]:
    """What ``loom.py run`` accepts: modules with a function ``main``."""
    files = [path for folder in PROGRAM_FOLDERS for path in sorted((PACK_ROOT / folder).glob("*.py"))]
    return [f"{path.parent.name}.{path.stem}" for path in files if "\ndef main()" in path.read_text(encoding="utf-8")]


def import_as_package(name: str = "pack") -> str:
    """Make the pack importable as a package, as ComfyUI does, whatever its folder is called.

    Its entry point, which is ComfyUI's, is not run. Returns the name.
    """
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = [str(PACK_ROOT)]
        sys.modules[name] = package
    return name


def pack_module(name: str) -> Any:
    """A module of the pack, which has no fixed name for an import statement."""
    return importlib.import_module(f"{import_as_package()}.{name}")
