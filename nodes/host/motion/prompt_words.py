"""Which tokens of a prompt are the words for a subject."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ....motion_models.errors import InvalidInput
from .box_attention import Words


def find_words(clip: Any, prompt: str, words: str) -> Words:
    """Find words, or several between commas, in a prompt as a CLIP reads it, each time they are there; raises InvalidInput."""
    tokens = _tokens(clip, prompt)
    places: set[int] = set()
    for phrase in filter(None, (part.strip() for part in words.split(","))):
        wanted = [token for token, is_word in _tokens(clip, phrase) if is_word]
        found = [place for place in range(len(tokens)) if wanted and _is_at(tokens, place, wanted)]
        if not found:
            raise InvalidInput(
                f"words has '{phrase}', which is not in the prompt '{_shortened(prompt)}'. Write words as they stand in the prompt, next "
                "to one another, or several such parts between commas."
            )
        places.update(place + i for place in found for i in range(len(wanted)))
    last = max((place for place, (_, is_word) in enumerate(tokens) if is_word), default=0)
    return Words(tuple(sorted(places)), tuple(range(last + 1, len(tokens))), len(tokens))


def _tokens(clip: Any, text: str) -> list[tuple[Any, bool]]:
    """A text's tokens, and whether each is of a word rather than a start, an end or what fills up."""
    chunks = next(iter(clip.tokenize(text, return_word_ids=True).values()))
    return [(token, bool(word)) for chunk in chunks for token, _, word in chunk]


def _is_at(tokens: list[tuple[Any, bool]], place: int, wanted: list[Any]) -> bool:
    there = [token for token, is_word in tokens[place : place + len(wanted)] if is_word]
    return len(there) == len(wanted) and all(_same(a, b) for a, b in zip(there, wanted, strict=True))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):  # of an embedding
        return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and bool((a == b).all())
    return a == b


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
