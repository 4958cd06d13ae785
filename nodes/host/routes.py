"""Loom's HTTP routes.

``POST /loom/migrate`` translates workflows of other AnimateDiff packs, for the editor and for users of the HTTP API.
``POST /loom/preview`` is where an editor says whether it plays moving previews.
``GET /loom/trained_frames``, ``POST /loom/windows`` and ``POST /loom/values`` tell the editor's timelines what to draw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ...migration.forms import UnknownWorkflow, is_editor_graph
from ...migration.media import workflow_of
from ...migration.migrate import add_note, migrate, needs_migration
from ...migration.translate import Files
from .editor import PREVIEW_CLIENTS, running_server
from .files.file_reports import trained_frames
from .files.folders import MOTION_LORA_FILES, MOTION_MODEL_FILES
from .runs.timelines import values, windows

MOST_BYTES = 32 * 2**20  # of a request


def add_routes() -> None:
    """Add Loom's routes to those of ComfyUI's server, where one runs."""
    server = running_server()
    if server is not None:
        server.app[PREVIEW_CLIENTS] = set()
        server.routes.post("/loom/migrate")(_migrate)
        server.routes.post("/loom/preview")(_set_preview)
        server.routes.get("/loom/trained_frames")(_trained_frames)
        server.routes.post("/loom/windows")(_answering(windows))
        server.routes.post("/loom/values")(_answering(values))


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


async def _trained_frames(request: web.Request) -> web.Response:
    """How many frames the clips had that motion model ``?file=`` was trained on, as a timeline marks it; null if unknown."""
    frames = await asyncio.to_thread(trained_frames, request.query.get("file", ""))
    return web.json_response({"trained_frames": frames})


def _answering(work: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            return web.json_response(await asyncio.to_thread(work, await request.json()))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            return web.json_response({"error": f"{error}"}, status=400)

    return answer


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


async def _set_preview(request: web.Request) -> web.Response:
    """Send moving previews of what ``client`` queues, or no longer: ``{"client": id, "on": true}``."""
    try:
        wish = await request.json()
        client, is_on = wish["client"], wish["on"]
    except (ValueError, KeyError, TypeError):
        return web.json_response({"error": 'The body has to be {"client": id, "on": true or false}.'}, status=400)
    connected = request.app[PREVIEW_CLIENTS] & running_server().sockets.keys()  # others are gone for good
    request.app[PREVIEW_CLIENTS].intersection_update(connected)
    (request.app[PREVIEW_CLIENTS].add if is_on is True else request.app[PREVIEW_CLIENTS].discard)(str(client))
    return web.json_response({})
