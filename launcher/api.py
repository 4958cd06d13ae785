"""``loom.py api``: an example workflow in the form that ComfyUI's HTTP API runs."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from .commands import set_up
from .errors import LoomError
from .pack import PACK_ROOT
from .server import ComfyServer, node_schemas
from .workflow import to_prompt

_EXAMPLES = PACK_ROOT / "example_workflows"
_PREFIX = "AnimateDiff - "


def api(args: argparse.Namespace) -> None:
    """Print the workflow. What its nodes take is asked of a running ComfyUI, or of one that is started for it."""
    workflow = read_workflow(find_workflow(args.workflow))
    if args.url:
        schemas = node_schemas(args.url)
    else:
        with contextlib.redirect_stdout(sys.stderr):  # what set-up says; the workflow alone is printed
            comfyui, python = set_up(args)
            with ComfyServer(comfyui.path, python) as server:
                schemas = node_schemas(server.url)
    print(json.dumps(to_prompt(workflow, schemas), indent=2, ensure_ascii=False))


def find_workflow(name: str) -> Path:
    """The file of an example, named as in the editor, or any workflow's file.

    Raises:
        LoomError: There is neither.
    """
    if Path(name).is_file():
        return Path(name)
    examples = {_plain(path.stem.removeprefix(_PREFIX)): path for path in sorted(_EXAMPLES.glob("*.json"))}
    if found := examples.get(_plain(Path(name).stem.removeprefix(_PREFIX))):
        return found
    names = ", ".join(path.stem.removeprefix(_PREFIX) for path in examples.values())
    raise LoomError(f"There is no example '{name}', nor a workflow's file of that name. There are: {names}.")


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def read_workflow(path: Path) -> dict[str, Any]:
    try:
        workflow: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoomError(f"'{path}' is not a workflow: {error}.") from error
    if not isinstance(workflow, dict):
        raise LoomError(f"'{path}' is not a workflow as the editor saves it.")
    return workflow
