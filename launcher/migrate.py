"""``loom.py migrate``: workflows of other AnimateDiff packs, translated into Loom's nodes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from migration.forms import UnknownWorkflow
from migration.media import workflow_in
from migration.migrate import migrate as translate
from migration.migrate import needs_migration
from migration.report import Word

from .errors import LoomError

EXIT_STATUS = {Word.SAME: 0, Word.NEAR: 3, Word.LOST: 4}
"""What the worst of all workflows gives; 1 is an error, as everywhere."""


def migrate(args: argparse.Namespace) -> None:
    """Translate files, print what becomes of each node, and exit with the status of the worst."""
    if args.out is not None:
        if args.out.exists() and not args.out.is_dir():
            raise LoomError(f"'{args.out}' (--out) is a file, not a folder.")
        args.out.mkdir(parents=True, exist_ok=True)
    words, failed = [], False
    for path in args.files:
        try:
            words.append(_migrate_file(path, args.out))
        except UnknownWorkflow as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
    if len(args.files) > 1:
        print(f"{len(words)} workflows: " + ", ".join(f"{words.count(word)} {word.value}" for word in Word))
    if failed:
        raise SystemExit(1)
    raise SystemExit(max((EXIT_STATUS[word] for word in words), default=0))


def _migrate_file(path: Path, out: Path | None) -> Word:
    workflow = workflow_in(path)
    if not needs_migration(workflow):
        print(f"{path}: nothing to translate.")
        return Word.SAME
    translated, report = translate(workflow)
    print(f"{path}: {report.summary}\n{_indented(str(report))}")
    if out is not None:
        written = out / f"{path.stem}.json"
        if written.exists() and written.samefile(path):
            raise LoomError(f"'{written}' would be overwritten. Name another folder with --out.")
        written.write_text(json.dumps(translated, ensure_ascii=False, indent=2), encoding="utf-8")
        print(f"  written to '{written}'")
    return report.word


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
