"""Settings, commands and categories: what the editor shows of them in each language is what web/js and the nodes have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("commands.json", "main.json", "settings.json")
LANGUAGES = sorted({path.parent.name for name in FILES for path in (ROOT / "locales").glob(f"*/{name}")})


def entries(tree: dict, path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from entries(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def texts(language: str, name: str) -> dict[str, str]:
    return dict(entries(json.loads((ROOT / "locales" / language / name).read_text(encoding="utf-8"))))


def sources(folder: str, pattern: str) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / folder).rglob(pattern)))


def test_english_texts_are_those_of_the_javascript():
    """They come before the ones in the code, so a text that is changed only there would not be seen. Dots in ids become `_`."""
    script = sources("web/js", "*.js")
    for name in ("commands.json", "settings.json"):
        for key, value in texts("en", name).items():
            assert f'"{value}"' in script, key
            assert f'"{key.split(".")[0].replace("_", ".")}"' in script, key


def test_english_categories_are_those_of_the_code():
    nodes, script = sources("nodes", "*.py"), sources("web/js", "*.js")
    for key, value in texts("en", "main.json").items():
        group, _, category = key.partition(".")
        assert value == category
        assert re.search(f'/{category}"' if group == "nodeCategories" else f'"{category}"', nodes if group == "nodeCategories" else script), key


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_every_language_has_every_text(language):
    for name in FILES:
        assert list(texts(language, name)) == list(texts("en", name)), name
        assert [key for key, value in texts(language, name).items() if not value.strip() or re.search(r"[{}@|$]", value)] == []
