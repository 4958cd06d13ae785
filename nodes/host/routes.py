"""``POST /loom/migrate``: workflows of other AnimateDiff packs, translated for the editor and for users of the HTTP API."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiohttp import web

from ...migration.forms import UnknownWorkflow, is_editor_graph
from ...migration.media import workflow_of
from ...migration.migrate import add_note, migrate, needs_migration
from ...migration.translate import Files
from .files.folders import MOTION_LORA_FILES, MOTION_MODEL_FILES

MOST_BYTES = 32 * 2**20  # of a request


def add_routes() -> None:
    """Add Loom's routes to those of ComfyUI's server, where one runs."""
    # ComfyUI has imported its server before any pack. Where it runs none, importing it would bring all of it along.
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is not None:
        server.routes.post("/loom/migrate")(_migrate)


async def _migrate(request: web.Request) -> web.Response:
    """Translate the workflow that is the body: JSON, or a PNG, WEBP or MP4 that holds it.

    The answer holds ``workflow``, of the same form, ``word``, ``summary`` and ``entries``: of each node that was replaced
    id and type, what it became, ``same``, ``near`` or ``lost``, and why. ``?note=1`` adds it to an editor's graph as a note.
    """
    try:
        if (request.content_length or 0) > MOST_BYTES:
            raise UnknownWorkflow(f"The workflow has over {MOST_BYTES >> 20} MiB.")
        answer = await asyncio.to_thread(_answer, await request.read(), bool(request.query.get("note")))
        return web.json_response(answer)
    except UnknownWorkflow as error:
        return web.json_response({"error": str(error)}, status=400)


def _answer(body: bytes, with_note: bool) -> dict[str, Any]:
    workflow = workflow_of(body, "The body")
    with_note = with_note and needs_migration(workflow)
    translated, report = migrate(workflow, Files(tuple(MOTION_MODEL_FILES.names()), tuple(MOTION_LORA_FILES.names())))
    if with_note and is_editor_graph(translated):
        add_note(translated, report)
    entries = [
        {"node": entry.node, "type": entry.type, "into": entry.into, "word": entry.word.value, "why": entry.why}
        for entry in report.entries
    ]
    return {"workflow": translated, "word": report.word.value, "summary": report.summary, "entries": entries}
