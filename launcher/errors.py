"""The one error the launcher raises on purpose."""

from __future__ import annotations


class LoomError(Exception):
    """A failure the user can act on: printed as one sentence, without a traceback.

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
