"""What the pages say is there: links, files, tests, node ids."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

import pytest
from pack.motion_models.config import Family
from pack.motion_models.inspect_file import inspect_file

from .test_checkpoint import on_meta, released

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
HELP = ROOT / "web" / "docs"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(HELP.rglob("*.md"))]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def node_ids() -> list[str]:
    """The ids in the nodes' schemas, read from their sources."""
    ids = []
    for path in sorted((ROOT / "nodes").glob("*.py")):
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.keyword) and node.arg == "node_id":
                assert isinstance(node.value, ast.Constant)
                ids.append(node.value.value)
    return ids


def english() -> dict:
    return json.loads(text(ROOT / "locales" / "en" / "nodeDefs.json"))


# --- pages ------------------------------------------------------------------------------------------------------------


def test_readme_is_short():
    assert len(text(README).splitlines()) < 150


def found_in(pages: list[Path], find: Callable[[Path], Iterable[str]]) -> list[str]:
    """What ``find`` finds in each page, behind the page's name."""
    return [f"{relative(page)}: {found}" for page in pages for found in find(page)]


def test_relative_links_lead_somewhere():
    def dead(page: Path) -> Iterable[str]:
        links = re.findall(r"\]\(([^)\s]+)\)", text(page))
        local = [link for link in links if not re.match(r"[a-z]+:", link) and not link.startswith("#")]
        return [link for link in local if not (page.parent / unquote(link.partition("#")[0])).exists()]

    assert found_in(PAGES, dead) == []


def test_named_files_and_tests_exist():
    """Paths of ours and names of tests that stand in backticks."""
    ours = r"(?:motion_models|animation|nodes|demo|launcher|tests|web|locales|docs|example_workflows|benchmarks)/"
    tests = "".join(text(path) for path in (ROOT / "tests").rglob("test_*.py"))

    def missing(page: Path) -> Iterable[str]:
        for path, test in re.findall(rf"`({ours}[\w./]+)(?:::(\w+))?`", text(page)):
            if not (ROOT / path).exists() or (test and f"def {test}(" not in text(ROOT / path)):
                yield f"{path} {test}"
        yield from (test for test in re.findall(r"`(test_\w+)`", text(page)) if f"def {test}(" not in tests)

    assert found_in(PAGES, missing) == []


def test_pages_name_no_machine_and_no_registry_host():
    names = r"/home/\w+|/root\b|/tmp\b|/work/|C:\\|pypi\.org|pythonhosted"
    assert found_in(PAGES, lambda page: re.findall(names, text(page))) == []


def rows_of(heading: str) -> list[list[str]]:
    """Cells of the first table under a heading of the README."""
    section = text(README).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("row", rows_of("Motion models"), ids=lambda row: row[0])
def test_readmes_table_of_motion_models_is_true(row):
    """Each cell is what Loom makes of the keys and shapes of that file."""
    files, family, base, trained, most, folder = row
    names = [name.replace("*", "4") for name in re.findall(r"`([\w*-]+)`", files)]
    found = [released(name) for name in names]
    reports = [inspect_file(on_meta(shapes), f"{name}.ckpt") for name, (shapes, _) in zip(names, found, strict=True)]
    configs = [report.config for report in reports]
    assert configs == [config for _, config in found]

    def cell(values: list) -> str:
        return " / ".join(dict.fromkeys(map(str, values)))

    assert cell([config.family.title for config in configs]) == family
    assert cell([config.base_model for config in configs]) == base
    assert cell([config.trained_frames for config in configs]) == trained
    assert cell([config.max_frames for config in configs]) == most
    assert cell([f"`{report.folder}`" for report in reports]) == folder
    assert all(report.usage.endswith("Load Motion Model") for report in reports)


def test_readmes_table_has_every_family():
    assert {row[1] for row in rows_of("Motion models")} == {family.title for family in Family}


def test_versions_agree():
    version = re.search(r'^version = "(.+)"$', text(ROOT / "pyproject.toml"), re.MULTILINE)[1]
    assert re.search(r"^## (\S+)", text(ROOT / "CHANGELOG.md"), re.MULTILINE)[1] == version


def test_the_oldest_comfyui_is_the_same_everywhere():
    wanted = re.search(r'requires-comfyui = ">=(.+)"', text(ROOT / "pyproject.toml"))[1]
    assert f"ComfyUI {wanted} or newer" in text(README)
    assert f"ComfyUI {wanted} or newer" in text(ROOT / "__init__.py")


# --- nodes ------------------------------------------------------------------------------------------------------------


def test_every_node_has_its_help_page():
    """ComfyUI looks for `<WEB_DIRECTORY>/docs/<node id>.md`."""
    assert 'WEB_DIRECTORY = "./web"' in text(ROOT / "__init__.py")
    assert sorted(path.stem for path in HELP.glob("*.md")) == sorted(node_ids())


def test_readme_names_every_node():
    for node_id in node_ids():
        assert f"| {english()[node_id]['display_name']} |" in text(README)
        assert f"(web/docs/{node_id}.md)" in text(README)


def test_help_pages_explain_every_input_and_output():
    nodes = english()

    def wrong(path: Path) -> Iterable[str]:
        page, node = text(path), nodes[path.stem]
        if not page.startswith(f"# {node['display_name']}\n"):
            yield f"does not begin with '# {node['display_name']}'"
        yield from (f"no '## {name}'" for name in ("Inputs", "Output", "Common mistakes") if f"\n## {name}" not in page)
        explained = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
        expected = [*node["inputs"], *(output["name"] for output in node["outputs"].values())]
        if explained != expected:
            yield f"explains {explained}, not {expected}"

    assert found_in([HELP / f"{node_id}.md" for node_id in node_ids()], wrong) == []
