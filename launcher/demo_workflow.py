"""The workflow that runs with the demo's own models, where ``loom.py serve`` shows it: by URL and in the side bar."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlencode

from .errors import os_error_text
from .pack import PACK_ROOT

DEMO_PACK = PACK_ROOT / "demo" / "pack"
DEMO_PACK_NAME = "animatediff-loom-demo"
# The editor takes no spaces in the name of a template that a URL opens.
WORKFLOW = DEMO_PACK / "example_workflows" / "AnimateDiff-Demo.json"
TITLE = "AnimateDiff Demo"


def demo_url(server_url: str) -> str:
    """Where the editor opens with the demo's workflow."""
    return f"{server_url}/?{urlencode({'template': WORKFLOW.stem, 'source': DEMO_PACK_NAME})}"


def put_into_side_bar(user_folder: Path) -> bool:
    """Copy the workflow to where ComfyUI keeps its first user's workflows; what is there stays. Whether it is there now."""
    place = user_folder / "default" / "workflows" / f"{TITLE}.json"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copyfile(WORKFLOW, place)
    except OSError as error:
        print(f"{os_error_text(error)}: the demo's workflow is not among your workflows.")
        return False
    return True
