"""One line of a terminal that says how far a run is."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO


class ProgressBar:
    """A bar that is redrawn in place on a terminal; elsewhere, one line for each new label."""

    def __init__(self, stream: TextIO | None = None, width: int = 30) -> None:
        self._stream = stream or sys.stdout
        self._is_terminal = self._stream.isatty()
        self._width = width
        self._label = ""
        encoding = (self._stream.encoding or "ascii").lower()
        self._full, self._empty = ("█", "░") if encoding.startswith("utf") else ("#", ".")

    def show(self, label: str, value: float, maximum: float) -> None:
        if not self._is_terminal:
            if label != self._label:
                self._stream.write(f"  {label}\n")
                self._stream.flush()
            self._label = label
            return
        share = min(value / maximum, 1.0) if maximum > 0 else 0.0
        done = round(share * self._width)
        bar = self._full * done + self._empty * (self._width - done)
        steps = f" {value:.0f}/{maximum:.0f}" if maximum > 1 else ""
        self._redraw(f"  {bar} {label}{steps}")

    def clear(self) -> None:
        """Leave the line empty for what is printed next."""
        if self._is_terminal:
            self._redraw("")
            self._stream.write("\r")
            self._stream.flush()

    def _redraw(self, text: str) -> None:
        # Spaces clear the rest: escape sequences are not on in every Windows terminal.
        columns = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{text[:columns].ljust(columns)}")
        self._stream.flush()
