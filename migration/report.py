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
        why: what changes, one sentence each, then what else there is to say.
        changes: how many of those sentences say what changes.
    """

    node: NodeId
    type: str
    into: tuple[str, ...]
    word: Word
    why: tuple[str, ...] = ()
    changes: int = 0

    def __str__(self) -> str:
        into = " + ".join(self.into) if self.into else "nothing"
        lines = [f"{self.word.value:<5} {self.type} (node {self.node}) -> {into}", *(f"        {line}" for line in self.why)]
        return "\n".join(lines)


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
        why = (*lost, *near, *dict.fromkeys(notes))
        self.entries.append(Outcome(node, type, tuple(into), word, why, len(lost + near)))

    @property
    def word(self) -> Word:
        """Of the whole workflow: that of its worst node."""
        return max((entry.word for entry in self.entries), key=_RANKS.__getitem__, default=Word.SAME)

    @property
    def summary(self) -> str:
        """How many nodes are the same, near and lost."""
        counts = [(word, sum(entry.word is word for entry in self.entries)) for word in Word]
        return ", ".join(f"{count} {word.value}" for word, count in counts if count)

    @property
    def markdown(self) -> str:
        """The report as a note beside the graph: what differs first."""
        lines = ["# Translated for AnimateDiff Loom", "", f"{self.summary}.", ""]
        for word, title in ((Word.LOST, "Lost"), (Word.NEAR, "Not quite the same"), (Word.SAME, "The same")):
            entries = [entry for entry in self.entries if entry.word is word]
            if entries:
                lines += [f"## {title}", ""]
                for entry in entries:
                    lines.append(f"- **{entry.type}** ({entry.node}) → {' + '.join(entry.into) or 'nothing'}")
                    lines += [f"    - {why}" for why in entry.why]
                lines.append("")
        return "\n".join(lines)

    def __str__(self) -> str:
        return "\n".join(map(str, self.entries))
