"""Captions: a text file beside a clip, or a table with a row for each."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import TrainingDataError

FILE_COLUMNS = ("file", "file_name", "filename", "video")
CAPTION_COLUMNS = ("caption", "text", "prompt")


@dataclass
class CaptionTable:
    """Captions of a csv file by relative path, with or without the file's ending; and each row's possible paths."""

    captions: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def find(self, path: str) -> str | None:
        return next((self.captions[name] for name in _names(path) if name in self.captions), None)

    def unused(self, paths: Iterable[str]) -> list[str]:
        """What the rows name that is none of the clips at these paths."""
        there = {name for path in paths for name in _names(path)}
        return [row[0] for row in self.rows if not there.intersection(row)]


def _names(path: str) -> tuple[str, ...]:
    stem, dot, _ = path.rpartition(".")
    return (path, stem) if dot and "/" not in path[len(stem) :] else (path,)


def read_caption_table(path: Path) -> CaptionTable:
    """Read captions from a csv file with a header, UTF-8, separated by commas, semicolons or tabs.

    It has one of ``FILE_COLUMNS`` and one of ``CAPTION_COLUMNS``; or AnimateDiff's columns, by which the caption ``name`` is
    for the video ``videoid``, in the folder itself or in its folder ``page_dir``.
    Source: guoyww/AnimateDiff, animatediff/data/dataset.py (layout of WebVid-10M).

    Raises:
        TrainingDataError: columns are missing, a row has too many, or a file has two captions.
    """
    table = CaptionTable()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=header.count)
            reader = csv.DictReader(file, delimiter=delimiter)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            columns = _choose_columns(path, reader.fieldnames)
            for row in reader:
                _add_row(table, path, reader.line_num, columns, row)
    except UnicodeDecodeError as error:
        raise TrainingDataError(f"'{path.name}' is not UTF-8 text. Save it as UTF-8 (in Excel: CSV UTF-8).") from error
    except (OSError, csv.Error) as error:
        raise TrainingDataError(f"'{path.name}' cannot be read as a csv file ({error}).") from error
    return table


def _choose_columns(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns for file, caption and perhaps folder."""
    files = [name for name in FILE_COLUMNS if name in names]
    captions = [name for name in CAPTION_COLUMNS if name in names]
    if files and captions:
        return files[0], captions[0]
    if "videoid" in names and "name" in names:
        return "videoid", "name", "page_dir"
    raise TrainingDataError(
        f"'{path.name}' has the columns {', '.join(map(repr, names)) or '(none)'}. Its first line must name a column for "
        f"the file ({', '.join(FILE_COLUMNS)}) and one for the caption ({', '.join(CAPTION_COLUMNS)}), or have "
        "AnimateDiff's columns videoid,name,page_dir."
    )


def _add_row(table: CaptionTable, path: Path, line: int, columns: tuple[str, ...], row: dict) -> None:
    if row.get(None):  # where csv puts what stands beyond the last column
        raise TrainingDataError(
            f"'{path.name}', line {line}, has more columns than the first line names. "
            'Put captions that contain a comma in double quotes: video.mp4,"a dog, running".'
        )
    file, caption, *folders = (row.get(column) or "" for column in columns)
    name = file.strip().replace("\\", "/").removeprefix("./").strip("/")
    if not name:
        return
    caption = " ".join(caption.split())
    names = (name, *(f"{folder.strip().strip('/')}/{name}" for folder in folders if folder.strip()))
    for each in names:
        if table.captions.setdefault(each, caption) != caption:
            raise TrainingDataError(f"'{path.name}', line {line}, has a second caption for '{name}'. Keep one of them.")
    table.rows.append(names)


def read_caption_file(path: Path) -> str:
    """Read a caption as one line; TrainingDataError if it is no UTF-8 text."""
    try:
        return " ".join(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"The caption '{path.name}' cannot be read ({error}). Save it as UTF-8 text.") from error
