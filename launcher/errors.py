"""Failures that users can act on, reported in one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

_STOPPED_READING = 141  # what shells report of a program that SIGPIPE ended


class LoomError(Exception):
    """A failure that is printed as one sentence, without a traceback.

    Args:
        message: One sentence that says what is wrong and what to do.
        details: Lines from a log that show why; printed below the sentence.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details.rstrip()

    def report(self) -> str:
        """What the user reads: the sentence and, if there are any, the details below it."""
        sentence = f"loom: {self}"
        return f"{sentence}\n{self.details}" if self.details else sentence


class ConnectionLostError(LoomError):
    """ComfyUI does not answer any more."""


class PromptRejectedError(LoomError):
    """ComfyUI did not accept a prompt, or not all of it.

    Attributes:
        error: ComfyUI's ``{"type", "message", "details", "extra_info"}``; empty if it accepted
            a part of the prompt.
        node_errors: ComfyUI's errors by node id.
    """

    def __init__(self, error: dict[str, Any], node_errors: dict[str, Any]) -> None:
        self.error = error
        self.node_errors = node_errors
        lines = [
            f"  node {node_id} ({node.get('class_type')}): {problem['message']}: "
            f"{problem['details']}"
            for node_id, node in node_errors.items()
            for problem in node.get("errors", [])
        ]
        message = error.get("message") or "part of it has errors"
        if not lines and error.get("details"):
            message += f": {error['details']}"
        super().__init__(f"ComfyUI rejected the workflow: {message.rstrip('.')}.", "\n".join(lines))


class PromptFailedError(LoomError):
    """A node raised an exception while the prompt ran.

    Attributes:
        node_id: The node's id in the prompt.
        node_type: Its class.
        exception_type: The name of the exception's class, for example ``ValueError``.
        exception_message: What it said.
    """

    def __init__(self, event: dict[str, Any]) -> None:
        self.node_id = str(event.get("node_id"))
        self.node_type = str(event.get("node_type"))
        self.exception_type = str(event.get("exception_type"))
        self.exception_message = str(event.get("exception_message")).strip()
        super().__init__(
            f"Node {self.node_id} ({self.node_type}) failed with {self.exception_type}: "
            f"{self.exception_message}"
        )


class PromptInterruptedError(LoomError):
    """The prompt was interrupted before it was done."""

    def __init__(self) -> None:
        super().__init__("The run was interrupted.")


def exit_code(action: Callable[[], None]) -> int:
    """Run a command's body; report its failure in one sentence and return its exit code."""
    try:
        action()
        sys.stdout.flush()
    except LoomError as error:
        print(error.report(), file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has read enough
        return _STOPPED_READING
    except OSError as error:  # a full disk, a folder without permission
        print(f"loom: {os_error_text(error)}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    finally:
        _discard_unwritten_output()
    return 0


def os_error_text(error: OSError) -> str:
    """What the system says, with the path where it names one."""
    reason = error.strerror or str(error)
    return f"'{error.filename}': {reason}" if error.filename else reason


def _discard_unwritten_output() -> None:
    """Python flushes again at exit, and would report a second time that it can't."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
