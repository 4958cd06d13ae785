"""What Loom tells the editor while a prompt runs, beyond what ComfyUI sends by itself."""

from __future__ import annotations

import sys
from typing import Any

from aiohttp import web
from comfy_execution.utils import get_executing_context

PREVIEW_CLIENTS: web.AppKey[set[str]] = web.AppKey("animatediff_loom_preview_clients", set)
"""Key of the server's application: ids of the editors that play moving previews. HTTP clients ask for none and get none."""


def running_server() -> Any | None:
    """ComfyUI's ``PromptServer``, or None where none runs.

    ComfyUI has imported its server before any pack. Where it runs none, importing it would bring all of it along.
    """
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def wants_previews() -> bool:
    """Whether whoever queued the running prompt plays moving previews."""
    server = running_server()
    return server is not None and server.client_id in server.app.get(PREVIEW_CLIENTS, ())


def send(event: str, data: dict[str, Any]) -> None:
    """Send a message about the running node to whoever queued it; nothing where there is nobody."""
    server, context = running_server(), get_executing_context()
    if server is not None and context is not None and server.client_id is not None:
        message = {"node": context.node_id, "prompt_id": context.prompt_id, **data}
        server.send_sync(event, message, server.client_id)
