"""What a translation tells of itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from .graph import NodeId


class Word(Enum):
    """How much of a node a translation keeps."""

    SAME = "same"
    NEAR = "near"
    LOST = "lost"


_RANKS = {Word.SAME: 0, Word.NEAR: 1, Word.LOST: 2}


@dataclass(frozen=True)
class Outcome:
    """What became of one node.

    Attributes:
        node: its id; of a node in a subgraph, that subgraph's name and a slash before it.
        type: its old type.
        into: the display names of what stands for it now.
        word: how much of it is kept.
        why: what changes, one sentence each; empty where it is the same.
    """

    node: NodeId
    type: str
    into: tuple[str, ...]
    word: Word
    why: tuple[str, ...] = ()

    def __str__(self) -> str:
        into = " + ".join(self.into) if self.into else "nothing"
        return f"{self.word.value:<5} {self.type} (node {self.node}) -> {into}" + "".join(f"\n        {line}" for line in self.why)


@dataclass
class Report:
    """What became of each node that was replaced, in the order of the work."""

    entries: list[Outcome] = field(default_factory=list)

    def add(
        self,
        node: NodeId,
        type: str,
        into: Iterable[str] = (),
        near: Iterable[str] = (),
        lost: Iterable[str] = (),
        notes: Iterable[str] = (),
    ) -> None:
        """Add a node; ``near`` and ``lost`` say what changes and what is gone, ``notes`` what else there is to say."""
        near, lost = tuple(dict.fromkeys(near)), tuple(dict.fromkeys(lost))
        word = Word.LOST if lost else Word.NEAR if near else Word.SAME
        self.entries.append(Outcome(node, type, tuple(into), word, lost + near + tuple(dict.fromkeys(notes))))

    @property
    def word(self) -> Word:
        """Of the whole workflow: that of its worst node."""
        return max((entry.word for entry in self.entries), key=_RANKS.__getitem__, default=Word.SAME)

    def __str__(self) -> str:
        return "\n".join(map(str, self.entries))
