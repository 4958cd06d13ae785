"""The folder is the layer: who may import whom, read from the sources."""

from __future__ import annotations

import ast
import collections
import functools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

STANDARD = frozenset(sys.stdlib_module_names)
TENSORS = {"torch", "einops", "numpy", "safetensors"}
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "latent_preview"}

HOST = {"pack.nodes.host", "pack.motion_models", "pack.animation", "PIL"} | TENSORS | COMFYUI

# What each folder may import besides the standard library; "pack" is the pack itself, whatever its folder is called.
LAYERS = {
    "motion_models": {"pack.motion_models"} | TENSORS,
    "motion_models/companions": {"pack.motion_models"} | TENSORS,
    "motion_models/training": {"pack.motion_models"} | TENSORS,
    "animation": {"pack.animation", "simpleeval", "pack.motion_models.errors"} | TENSORS,
    "nodes": {"pack.nodes", "comfy_api", "comfy.samplers", "comfy.model_management", "torch"},
    "nodes/host": HOST,
    **{f"nodes/host/{wing}": HOST for wing in ("motion", "files", "runs", "training", "charts")},
    "migration": {"pack.migration"},
    "launcher": {"pack.launcher", "migration"},
}
# These run in the Python of ComfyUI's environment; the rest of the launcher must do without.
RUN_BY_COMFYUIS_PYTHON = {
    "launcher/client.py": {"aiohttp"},
    "launcher/demo.py": {"PIL"},
    "launcher/comfy_device.py": {"torch", "comfy"},
    "launcher/config_file.py": {"pydantic", "pydantic_core", "tomli"},
    "launcher/render.py": {"torch"},
    "launcher/render_config.py": {"pydantic"},
    "launcher/render_folder.py": {"av", "numpy", "safetensors", "torch"},
    "launcher/render_models.py": {"torch", "comfy", "numpy"},
    "launcher/train.py": {"torch", "comfy", "accelerate"},
    "launcher/training_config.py": {"pydantic"},
}
# What the editor and users of the HTTP API ask the server for.
ANSWERS_HTTP = {"nodes/host/routes.py": {"aiohttp", "pack.migration"}, "nodes/host/editor.py": {"aiohttp"}}
# Videos and images are opened here alone, and only when a clip is read.
READS_PICTURES = {"motion_models/training/frame_files.py": {"av", "PIL"}}
SINGLE_FILES = {
    "__init__.py": {"pack.nodes", "comfyui_version"},
    "loom.py": {"launcher"},
}


def imports(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Yield the full name of everything imported; ``from a import b`` is ``a.b``, be ``b`` a module or a name."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                climbed = parts[: len(parts) - node.level + 1]
                base = ".".join([*climbed, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def is_allowed(name: str, allowed: set[str]) -> bool:
    return name.partition(".")[0] in STANDARD or any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed)


def forbidden(source: str, module: str, allowed: set[str], is_package: bool = False) -> list[str]:
    return sorted({name for name in imports(source, module, is_package) if not is_allowed(name, allowed)})


def imports_of(path: Path) -> set[str]:
    return set(imports(path.read_text(encoding="utf-8"), module_name(path), path.name == "__init__.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["pack", *(part for part in parts if part != "__init__")])


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parent.as_posix()


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


LAYER_FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).glob("*.py"))
PACK_FILES = [path for path in LAYER_FILES if layer_of(path) != "launcher"] + [ROOT / "__init__.py"]
HOST_FILES = [path for path in PACK_FILES if layer_of(path).startswith("nodes/host")]


def test_imports_point_down():
    allowed = {relative(path): LAYERS[layer_of(path)] for path in LAYER_FILES} | SINGLE_FILES
    for name, more in (RUN_BY_COMFYUIS_PYTHON | READS_PICTURES | ANSWERS_HTTP).items():
        allowed[name] = allowed[name] | more
    wrong = [f"{file} imports {name}" for file in allowed for name in imports_of(ROOT / file) if not is_allowed(name, allowed[file])]
    assert sorted(wrong) == []


def test_every_python_file_of_the_pack_belongs_to_a_layer():
    outside = {"tests", "benchmarks", "demo"}
    found = {path for path in ROOT.rglob("*.py") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)}
    known = {*LAYER_FILES, *(ROOT / name for name in SINGLE_FILES)}
    assert [relative(path) for path in sorted(found - known) if path.relative_to(ROOT).parts[0] not in outside] == []
    assert {layer_of(path) for path in LAYER_FILES} == LAYERS.keys()


WRONG_IMPORTS = [
    # module, layer, source, what may not be imported
    ("pack.motion_models.x", "motion_models", "import comfy.ops", "comfy.ops"),
    ("pack.motion_models.x", "motion_models", "from ..nodes.host import types", "pack.nodes.host.types"),
    ("pack.motion_models.x", "motion_models", "from ..animation.noise_shuffle import y", "pack.animation.noise_shuffle.y"),
    ("pack.motion_models.x", "motion_models", "from .. import nodes", "pack.nodes"),
    ("pack.motion_models.x", "motion_models", "def f():\n    import diffusers", "diffusers"),
    ("pack.motion_models.x", "motion_models", "from .config import Family\nimport torchvision", "torchvision"),
    ("pack.nodes.x", "nodes", "from ..motion_models import config", "pack.motion_models.config"),
    ("pack.nodes.x", "nodes", "import comfy.model_patcher", "comfy.model_patcher"),
    ("pack.nodes.x", "nodes", "import comfy", "comfy"),
    ("pack.nodes.x", "nodes", "import folder_paths", "folder_paths"),
    ("pack.nodes.host.x", "nodes/host", "from ..loaders import NODES", "pack.nodes.loaders.NODES"),
    ("pack.nodes.host.motion.x", "nodes/host/motion", "import nodes", "nodes"),
    ("pack.launcher.x", "launcher", "import aiohttp", "aiohttp"),
    ("pack.launcher.x", "launcher", "from ..motion_models import layers", "pack.motion_models.layers"),
]


def test_wrong_imports_are_found():
    missed = [source for module, layer, source, wrong in WRONG_IMPORTS if forbidden(source, module, LAYERS[layer]) != [wrong]]
    assert missed == []


def test_what_loom_py_runs_by_itself_needs_the_standard_library_only():
    """From loom.py on, no import leads to a file that needs ComfyUI's environment."""
    waiting, reached = [ROOT / "loom.py"], set()
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        for name in imports_of(path):
            parts = name.removeprefix("pack.").split(".")
            for length in range(1, len(parts) + 1):
                place = ROOT.joinpath(*parts[:length])
                waiting += [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    assert ROOT / "launcher/commands.py" in reached
    assert not {relative(path) for path in reached} & RUN_BY_COMFYUIS_PYTHON.keys()
    assert {layer_of(path) for path in reached} == {".", "launcher", "migration"}


# --- the wings of nodes/host ------------------------------------------------------------------------------------------

# Which other wings each may import.
GROUND = {"types", "provenance"}
WINGS = {
    "types": set(),
    "editor": set(),
    "notices": {"types", "editor"},
    "provenance": {"types"},
    "motion": GROUND,
    "files": GROUND | {"motion"},
    "runs": GROUND | {"motion", "files", "editor"},
    "training": GROUND | {"motion", "files", "runs", "charts"},
    "charts": {"types"},
    "routes": {"files", "runs", "editor"},
}
MOST_FLOORS = 7


def host_imports() -> dict[str, set[str]]:
    """Each module of nodes/host, without that prefix, and those of them that it imports."""
    prefix = "pack.nodes.host."
    modules = {module_name(path).removeprefix(prefix): path for path in HOST_FILES if path.name != "__init__.py"}
    found = {}
    for module, path in modules.items():
        names = [name.removeprefix(prefix) for name in imports_of(path) if name.startswith(prefix)]
        found[module] = {name if name in modules else name.rpartition(".")[0] for name in names}
        assert found[module] <= modules.keys(), module
    return found


def test_wings_import_one_way():
    wrong = [
        f"{module} imports {other}"
        for module, others in host_imports().items()
        for other in others
        if (wing := module.split(".")[0]) != (others_wing := other.split(".")[0]) and others_wing not in WINGS[wing]
    ]
    assert sorted(set(wrong)) == []


def test_few_floors_of_imports():
    """Who reads a file of the host has few others to know."""
    imported = host_imports()

    @functools.cache
    def longest_chain(module: str) -> tuple[str, ...]:
        return (module, *max(map(longest_chain, imported[module]), key=len, default=()))

    too_long = [chain for chain in map(longest_chain, imported) if len(chain) > MOST_FLOORS]
    assert sorted(too_long, key=len, reverse=True) == []


# --- nothing of ComfyUI's or PyTorch's is changed --------------------------------------------------------------------

_GUARDED = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "latent_preview", "nodes", "execution", "torch"}


def foreign_assignments(source: str) -> list[str]:
    """Assignments to, deletions of and ``setattr`` on attributes and entries of what comes from ComfyUI or torch."""
    tree = ast.parse(source)
    foreign: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [(alias.name, alias.asname or alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [(str(node.module), alias.asname or alias.name) for alias in node.names]
        else:
            continue
        foreign |= {name for module, name in names if module.partition(".")[0] in _GUARDED}
    return [ast.unparse(target) for target in _changed(tree) if _root_name(target) in foreign]


def _changed(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            yield node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
            yield ast.Attribute(node.args[0], "setattr", ast.Store())


def _root_name(node: ast.expr) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def test_comfyui_and_torch_stay_as_they_are():
    found = [f"{relative(path)}: {target}" for path in PACK_FILES for target in foreign_assignments(path.read_text(encoding="utf-8"))]
    assert found == []


CHANGES = [
    "import torch\ntorch.nn.GroupNorm.forward = f",
    "import comfy.samplers\ncomfy.samplers.sampling_function = f",
    "import comfy.ops as ops\nops.manual_cast.Linear = f",
    "from comfy.model_patcher import ModelPatcher\nModelPatcher.clone = f",
    "from comfy import hooks\nsetattr(hooks, 'x', f)",
    "import torch\ndel torch.nn.x",
    "import latent_preview as p\nwith a as p.get_previewer: pass",
    "import torch\ntorch.backends.cudnn.benchmark: bool = True",
    "import torch\na, torch.x = 1, 2",
    "import torch\ntorch.table['x'] += 1",
]


def test_changes_are_found():
    assert [source for source in CHANGES if len(foreign_assignments(source)) != 1] == []


# --- names ------------------------------------------------------------------------------------------------------------


def test_drawers_have_no_names():
    """A helper lives in the file of its subject."""
    found = [path for path in LAYER_FILES if path.stem.strip("_") in ("utils", "util", "helpers", "helper", "common", "misc")]
    assert found == []


def doubles(places: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Names that are in several places, and where."""
    found = collections.defaultdict(list)
    for name, place in places:
        found[name].append(place)
    return {name: where for name, where in found.items() if len(where) > 1}


def test_no_two_files_share_a_name():
    """Each layer may have errors of its own."""
    assert doubles((path.stem, relative(path)) for path in PACK_FILES if path.stem not in ("__init__", "errors")) == {}


def classes_of(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef)]


def test_no_two_classes_share_a_name():
    found = doubles((node.name, relative(path)) for path in PACK_FILES for node in classes_of(path))
    assert found.keys() <= {"Entry"}, found


def test_node_classes_end_in_node():
    nodes = [node.name for path in PACK_FILES for node in classes_of(path) if "LoomNode" in map(ast.unparse, node.bases)]
    assert len(nodes) > 20
    assert [name for name in nodes if not name.endswith("Node")] == []
