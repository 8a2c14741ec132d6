"""`datasets/<name>/sources.yaml`: where every file of a dataset is to be had, and `sources.lock.json`: what came.

The table is written by hand and holds facts only. The lock is written by `um download` and committed: the sha256 of
every file that the table knows no checksum of, as it came first. From then on that one is expected.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from um.errors import BadInput
from um.files import exclusive, read_json, sha256, write_json
from um.params import Section, validate

KINDS = ("annotations", "features", "videos")
Kind = Literal["annotations", "features", "videos"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class File(Section):
    """One file of the outside world, or one per video where its name has `{id}`."""

    file: str = Field(pattern=r"^[^/\\.][^/\\]*$", description="its name below a mirror's folder of the dataset")
    urls: list[str] = Field(
        [], description="where it is, the best place first: http(s), and shared links of Google Drive and YouTube"
    )
    pages: list[str] = Field([], description="where only a person with a browser gets it: OneDrive, Box, Baidu, MEGA")
    sha256: Sha256 | None = Field(None, description="checksum, where one is published")
    bytes: int | None = Field(None, ge=0, description="size, where it is published")
    subset: str | None = Field(None, description="whose videos or annotations it holds; none: of all")

    @property
    def each(self) -> bool:
        """Whether there is one per video."""
        return "{id}" in self.file


class Alternative(Section):
    """Files that make up one version of the annotations, the features or the videos."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="what --source calls it")
    about: str = Field(description="who made it, and how its files are laid out inside")
    terms: str = Field(description="licence and terms of use, as far as they are stated")
    files: list[File] = Field(min_length=1)


class Split(Section):
    """A population of the literature: how many videos it trains and tests on."""

    name: str
    train: int
    test: int


class Table(Section):
    """`sources.yaml`: of each kind, alternatives that are tried in this order."""

    train: str = Field(description="name of the subset that is trained on: folders and annotations.json have it")
    test: str = Field(description="name of the subset that is tested on")
    annotations: list[Alternative] = Field([])
    features: list[Alternative] = Field([])
    videos: list[Alternative] = Field([])
    exclude: dict[str, str] = Field({}, description="annotated videos that do not count, and why")
    splits: list[Split] = Field([])

    @model_validator(mode="after")
    def _check_names(self) -> "Table":
        for kind in KINDS:
            names = [alternative.name for alternative in getattr(self, kind)]
            if len(set(names)) < len(names):
                raise ValueError(f"expected names of {kind} that differ, got {', '.join(names)}")
        return self


def read(path: Path) -> Table:
    """Read a `sources.yaml`.

    Raises:
        BadInput: no such file, or not of this form.
    """
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BadInput(path, "no such file", "where the dataset's files are", "docs/datasets.md explains it") from None
    except yaml.YAMLError as error:
        found = f"invalid YAML ({str(error).splitlines()[0]})"
        raise BadInput(path, found, "a table of sources", "see docs/datasets.md") from None
    return validate(Table, values, path)


class Lock:
    """`sources.lock.json`: name → sha256 and bytes of files that came without a published checksum."""

    def __init__(self, path: Path) -> None:
        self.path = path
        values: Any = read_json(path) if path.is_file() else {}
        self.files: dict[str, dict[str, Any]] = dict(values.get("files", {}))

    def expected(self, name: str, published: str | None = None) -> str | None:
        """The checksum that a file must have, if one is known."""
        return published or self.files.get(name, {}).get("sha256")

    def pin(self, name: str, path: Path) -> None:
        """Enter a file that has come for the first time; other threads and processes may do so, too."""
        if name not in self.files:
            entry = {"sha256": sha256(path), "bytes": path.stat().st_size}
            with exclusive(self.path):
                self.files = {name: entry} | Lock(self.path).files
                write_json(self.path, {"files": dict(sorted(self.files.items()))})


def is_page(url: str) -> bool:
    """Whether a mirror is a server's address, not a folder."""
    return re.match(r"https?://", url) is not None
