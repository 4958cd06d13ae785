"""``loom.py migrate``: workflows of other AnimateDiff packs, translated into Loom's nodes."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from migration.forms import UnknownWorkflow
from migration.media import workflow_in
from migration.migrate import migrate as translate
from migration.migrate import needs_migration
from migration.report import Report, Word

from .errors import LoomError

EXIT_STATUS = {Word.SAME: 0, Word.NEAR: 3, Word.LOST: 4}
"""What the worst of all workflows gives; 1 is an error, as everywhere."""


def migrate(args: argparse.Namespace) -> None:
    """Translate files, print what becomes of each node, and exit with the status of the worst."""
    if args.out is not None:
        if args.out.exists() and not args.out.is_dir():
            raise LoomError(f"'{args.out}' (--out) is a file, not a folder.")
        args.out.mkdir(parents=True, exist_ok=True)
    reports: list[Report] = []
    failed = False
    for path in args.files:
        try:
            reports += _migrate_file(path, args.out, is_quiet=args.counts)
        except UnknownWorkflow as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
    words = [report.word for report in reports]
    if args.counts:
        print(_table(reports))
    elif len(args.files) > 1:
        print(f"{len(words)} workflows: " + ", ".join(f"{words.count(word)} {word.value}" for word in Word))
    if failed:
        raise SystemExit(1)
    raise SystemExit(max((EXIT_STATUS[word] for word in words), default=0))


def _migrate_file(path: Path, out: Path | None, is_quiet: bool) -> list[Report]:
    """Translate one file; no report where it has nothing to translate."""
    workflow = workflow_in(path)
    if not needs_migration(workflow):
        if not is_quiet:
            print(f"{path}: nothing to translate.")
        return []
    translated, report = translate(workflow)
    if not is_quiet:
        print(f"{path}: {report.summary}\n{_indented(str(report))}")
    if out is not None:
        written = out / f"{path.stem}.json"
        if written.exists() and written.samefile(path):
            raise LoomError(f"'{written}' would be overwritten. Name another folder with --out.")
        written.write_text(json.dumps(translated, ensure_ascii=False, indent=2), encoding="utf-8")
        if not is_quiet:
            print(f"  written to '{written}'")
    return [report]


def _table(reports: list[Report]) -> str:
    """How many workflows are the same, near and lost, and why, as tables in Markdown."""
    words = Counter(report.word for report in reports)
    lines = ["| result | workflows |", "|---|---|", *(f"| {word.value} | {words[word]} |" for word in Word)]
    reasons = Counter(reason for report in reports for reason in {_without_details(why) for why in _reasons(report)})
    lines += ["", "| what changes | workflows |", "|---|---|"]
    lines += [f"| {why} | {count} |" for why, count in reasons.most_common()]
    return "\n".join(lines)


def _reasons(report: Report) -> Iterator[str]:
    for entry in report.entries:
        yield from entry.why[: entry.changes]


def _without_details(why: str) -> str:
    """A reason without names and numbers, so that those of several workflows are counted together."""
    return re.sub(r"'[^']*'|\b\d[\d.]*\b", "…", why)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
