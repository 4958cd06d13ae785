"""Every language has every text, and what is not a word is the same in all: option values, names, numbers, code, tables."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from .test_docs import HELP, ROOT, english, node_ids, text

LOCALES = sorted(path.parent.name for path in (ROOT / "locales").glob("*/nodeDefs.json"))
TRANSLATIONS = [locale for locale in LOCALES if locale != "en"]

OFFERED = {"en", "zh", "zh-TW", "ru", "ja", "ko", "fr", "es", "ar", "tr", "pt-BR", "fa", "he"}
"""The languages that ComfyUI's frontend can be set to. It never asks for any other."""

SHIPPED = ["en", "es", "fr", "ja", "ko", "zh", "zh-TW"]
"""The languages with texts and a help page for every node."""

BEHIND: set[str] = set()
"""Nodes whose translated pages may be missing, or lack what is new in the English ones, which ComfyUI shows instead. A release
has none."""

NAMES = [
    *("AnimateDiff", "AnimateDiff-Evolved", "AnimateDiff-SDXL", "AnimateLCM", "AUTOMATIC1111", "ComfyUI", "Deforum"),
    *("Diffusers", "FizzNodes", "FreeInit", "FreeNoise", "HotshotXL", "LongAnimateDiff", "LoRA", "MotionAdapter"),
    *("MotionDirector", "SD1.5", "SDXL", "UNet", "VAE"),
]
"""Names that are the same in every language."""


def entries(tree: dict, path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from entries(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def texts_in(locale: str) -> dict[str, str]:
    return dict(entries(json.loads(text(ROOT / "locales" / locale / "nodeDefs.json"))))


def help_page(node_id: str, locale: str) -> Path:
    """ComfyUI asks for this page first, then for the English one, `<node id>.md`."""
    return HELP / node_id / f"{locale}.md"


# --- nodes ------------------------------------------------------------------------------------------------------------


def test_languages():
    assert set(LOCALES) - OFFERED == set(), "nobody can choose these languages"
    assert sorted(SHIPPED) == LOCALES
    assert sorted(english()) == sorted(node_ids())
    for path in (ROOT / "locales").glob("*/*"):
        assert (ROOT / "locales" / "en" / path.name).exists(), path


@pytest.mark.parametrize("locale", LOCALES)
def test_locales_have_every_text(locale):
    texts = texts_in(locale)
    assert list(texts) == list(texts_in("en"))
    assert [name for name, value in texts.items() if not isinstance(value, str) or not value.strip()] == []


@pytest.mark.parametrize("locale", LOCALES)
def test_locales_have_no_signs_that_mean_something_to_the_editor(locale):
    """Their texts are messages of vue-i18n, where these signs are syntax: braces, for one, are placeholders."""
    assert [name for name, value in texts_in(locale).items() if re.search(r"[{}@|$]", value)] == []


@pytest.mark.parametrize("locale", TRANSLATIONS)
def test_translations_are_translated(locale):
    english_texts = texts_in("en")
    same = [name for name, value in texts_in(locale).items() if value == english_texts[name] and len(value) > 12]
    assert same == []


def numbers(value: str) -> Counter[str]:
    """The numbers in a text, without those that end a name, as in motion_model_1. Some languages write a comma in them."""
    return Counter(number.replace(",", ".") for number in re.findall(r"(?<![_\d.])\d+(?:[.,]\d+)?", value))


def kept(value: str, inputs: set[str]) -> set[str]:
    """What a translation has as it is: option values, files and the like, which have underscores, and names."""
    return set(re.findall(r"[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+", value)) - inputs | {name for name in NAMES if name in value}


@pytest.mark.parametrize("locale", TRANSLATIONS)
def test_translations_keep_names_and_numbers(locale):
    """Names of inputs are translated, where they stand in a text, too. Small numbers may be words in one of the languages."""
    inputs = {name for node in english().values() for name in node["inputs"]}
    translated, wrong = texts_in(locale), []
    for name, value in texts_in("en").items():
        if name.endswith((".tooltip", ".description")):
            lost, new = numbers(value) - numbers(translated[name]), numbers(translated[name]) - numbers(value)
            wrong += [f"{name}: {number}" for number in [*lost, *(number for number in new if number not in "12345")]]
            wrong += [f"{name}: {word}" for word in kept(value, inputs) if word not in translated[name]]
    assert wrong == []


@pytest.mark.parametrize("locale", LOCALES)
def test_names_say_in_every_language_what_they_are_for(locale):
    """A node search for AnimateDiff finds first what has the word in its name, whatever the language."""
    words = {node_id: re.findall(r"AnimateDiff|Loom", node["display_name"]) for node_id, node in english().items()}
    nodes = json.loads(text(ROOT / "locales" / locale / "nodeDefs.json"))
    without = [id for id, wanted in words.items() if any(word not in nodes[id]["display_name"] for word in wanted)]
    assert without == []


# --- help pages -------------------------------------------------------------------------------------------------------


def shape(page: str) -> dict[str, list]:
    """What a translated page has in common with the English one."""
    code = re.findall(r"^```.*?^```", page, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    return {
        "headings": re.findall(r"^#+(?= )", prose, re.MULTILINE),
        "table rows": [len(re.findall(r"(?<!\\)\|", row)) for row in re.findall(r"^\|.*", prose, re.MULTILINE)],
        "list items": re.findall(r"^(?:-|\d+\.)(?= )", prose, re.MULTILINE),
        "code blocks": code,
        "code in the text": sorted(set(re.findall(r"``.+?``|`[^`\n]+`", prose))),
        "links": re.findall(r"\]\(([^)\s]+)\)", prose),
        "inputs and outputs": re.findall(r"^\| `(\w+)`", prose, re.MULTILINE),
    }


def translated_pages() -> Iterable[Path]:
    return sorted(HELP.glob("*/*.md"))


def test_every_language_has_help_for_every_node():
    pages = {help_page(node_id, locale) for node_id in set(node_ids()) - BEHIND for locale in TRANSLATIONS}
    assert sorted(pages - set(translated_pages())) == []


@pytest.mark.parametrize("locale", sorted({path.stem for path in translated_pages()}))
def test_help_pages_have_the_shape_of_the_english_ones(locale):
    wrong = []
    for path in [path for path in translated_pages() if path.stem == locale and path.parent.name not in BEHIND]:
        page, expected = shape(text(path)), shape(text(HELP / f"{path.parent.name}.md"))
        wrong += [f"{path.parent.name}: {part}" for part in expected if page[part] != expected[part]]
    assert wrong == []


@pytest.mark.parametrize("locale", sorted({path.stem for path in translated_pages()}))
def test_help_pages_have_the_nodes_name(locale):
    names = json.loads(text(ROOT / "locales" / locale / "nodeDefs.json"))
    titles = {path: text(path).partition("\n")[0] for path in translated_pages() if path.stem == locale}
    assert [str(path) for path, title in titles.items() if title != f"# {names[path.parent.name]['display_name']}"] == []
