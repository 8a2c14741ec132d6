"""`missing.tsv`: the missing videos of a dataset, one per row with the reason.

A date of `-` marks reports by others that nobody here has tried.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from um.datasets.annotations import video_id
from um.errors import BadInput, printable
from um.files import atomic
from um.forms import read_text

COLUMNS = ("id", "reason", "date", "source")


class Row(NamedTuple):
    """Why a video is missing, the date of that finding, and the places that were tried."""

    reason: str
    date: str
    source: str


def read(path: Path) -> dict[str, Row]:
    """The rows by id, in the order of the file; empty without a file.

    Raises:
        BadInput: no header, another number of columns, no id, or an id twice.
    """
    if not os.path.lexists(path):
        return {}
    lines = read_text(path, f"columns {', '.join(COLUMNS)}").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    hint = f"tab-separated columns: {', '.join(COLUMNS)}"
    if not lines or tuple(lines[0].split("\t")) != COLUMNS:
        raise BadInput(path, repr(lines[0]) if lines else "nothing", "a header", hint)
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines[1:], 2):
        name, *values = line.split("\t")
        if len(values) != len(Row._fields) or not name:
            raise BadInput(f"{path}:{number}", repr(line), f"{len(COLUMNS)} columns", hint)
        if video_id(name) in rows:
            raise BadInput(f"{path}:{number}", f"video {video_id(name)} twice", "every id once", "remove one")
        rows[video_id(name)] = Row(*values)
    return rows


def write(path: Path, rows: Mapping[str, Row]) -> None:
    """Write rows sorted by id; white space in a value becomes one blank, unprintable characters are escaped."""
    with atomic(path) as temporary:
        lines = [COLUMNS, *((name, *rows[name]) for name in sorted(rows))]
        text = "".join("\t".join(printable(" ".join(value.split())) for value in line) + "\n" for line in lines)
        temporary.write_text(text, "utf-8")
