"""What Loom logs while a prompt runs, passed on to whoever queued it: to the editor, and into the prompt's history entry."""

from __future__ import annotations

import logging

from comfy_execution.utils import get_executing_context

from .editor import running_server, send
from .types import KEY, logger

EVENT = "loom.notice"
NOTICES_KEY = f"{KEY}_notices"
"""Key, in the extra data that a history entry has of its prompt, of a list of ``node``, ``severity`` and ``text``."""


class _Notices(logging.Handler):
    """Takes warnings, and what is logged with NOTE; what a prompt says again is left out."""

    def emit(self, record: logging.LogRecord) -> None:
        server, context = running_server(), get_executing_context()
        is_warning = record.levelno >= logging.WARNING
        if server is None or context is None or not (is_warning or getattr(record, "is_note", False)):
            return
        notice = {"node": context.node_id, "severity": "warn" if is_warning else "info", "text": record.getMessage()}
        queue = server.prompt_queue
        with queue.mutex:
            for _, prompt_id, _, extra_data, *_ in queue.get_current_queue_volatile()[0]:
                if prompt_id != context.prompt_id:
                    continue
                said = extra_data.get(NOTICES_KEY, [])
                if any(notice["text"] == earlier["text"] for earlier in said):
                    return
                extra_data[NOTICES_KEY] = [*said, notice]
        send(EVENT, notice)


def pass_on_notices() -> None:
    logger.addHandler(_Notices())
