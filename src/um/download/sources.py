"""`datasets/<name>/sources.yaml`, the download links of a dataset, and `sources.lock.json`, its checksums.

The table is written by hand and holds facts only. The lock is written by `um download` and committed: it pins the
sha256 of every file without a published checksum at its first download, and expects it from then on.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, field_validator, model_validator

from um.files import exclusive, sha256, write_json
from um.forms import Form, Listed, Section, Sha256, load, read_yaml, validate

KINDS = ("annotations", "features", "videos")
Name = Annotated[str, Field(pattern=r"^[^/\\.\x00-\x1f][^/\\\x00-\x1f]*$")]  # of a file or a folder


class File(Section):
    """One file to download, or one per video if its name has `{id}`."""

    file: Name = Field(description="its name below a mirror's folder of the dataset")
    urls: list[str] = Field(
        [], description="links, the best one first: http(s), and shared links of Google Drive and YouTube"
    )
    pages: list[str] = Field([], description="pages for a person with a browser: OneDrive, Box, Baidu, MEGA")
    sha256: Sha256 | None = Field(None, description="published checksum, if any")
    bytes: int | None = Field(None, ge=0, description="published size, if any")
    subset: str | None = Field(None, description="whose videos or annotations it holds; none: of all")

    @field_validator("urls")
    @classmethod
    def _check_places(cls, urls: list[str]) -> list[str]:
        for url in urls:
            if other := set(re.findall(r"\{(.*?)\}", url)) - {"id", "subset"}:
                raise ValueError(f"expected no {{{other.pop()}}} in a link, only {{id}} and {{subset}}")
            url.format(id="", subset="")
        return urls

    @property
    def each(self) -> bool:
        """Whether there is one per video."""
        return "{id}" in self.file


class Alternative(Section):
    """The files of one version of the annotations, features or videos."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="what --source calls it")
    about: str = Field(description="who made it, and how its files are laid out inside")
    terms: str = Field(description="licence and terms of use, as stated")
    files: list[File] = Field(min_length=1)


class Split(Section):
    """A population of the literature: how many videos it trains and tests on."""

    name: str
    train: int
    test: int


class Table(Section):
    """`sources.yaml`: of each kind, alternatives that are tried in this order."""

    hint: ClassVar[str] = "docs/datasets.md explains sources.yaml"

    train: Name = Field(description="name of the subset that is trained on: folders and annotations.json have it")
    test: Name = Field(description="name of the subset that is tested on")
    annotations: list[Alternative] = Field([])
    features: list[Alternative] = Field([])
    videos: list[Alternative] = Field([])
    exclude: dict[str, str] = Field({}, description="annotated videos that do not count, and why")
    past_the_end: dict[str, str] = Field(
        {}, description="videos that are known to end before their last annotation, and who says so"
    )
    splits: list[Split] = Field([])

    @model_validator(mode="after")
    def _check_names(self) -> "Table":
        for kind in KINDS:
            names = [alternative.name for alternative in getattr(self, kind)]
            if len(set(names)) < len(names):
                raise ValueError(f"expected names of {kind} that differ, got {', '.join(names)}")
        files = Counter(f.file for kind in KINDS for version in getattr(self, kind) for f in version.files)
        if twice := [name for name, count in files.items() if count > 1]:
            raise ValueError(f"expected distinct file names, the keys of mirrors and the lock, got {twice[0]} twice")
        return self


def read(path: Path) -> Table:
    """Read a `sources.yaml`.

    Raises:
        BadInput: no such file, or not of this form.
    """
    return validate(Table, read_yaml(path, "a table of sources", "docs/datasets.md explains it"), path)


class _Locked(Form):
    """`sources.lock.json`."""

    hint = "`git checkout` brings it back; without the file, the next download is pinned again"

    versions: dict[str, str] = Field({})
    files: dict[str, Listed] = Field({})


class Lock:
    """`sources.lock.json`: the versions and checksums of the first download, expected from then on.

    Attributes:
        versions: annotations and features → the version in use, so that no run switches to another by itself.
        files: name → sha256 and bytes of files, of those in shared folders and of videos in archives.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        known = load(_Locked, path) if os.path.lexists(path) else _Locked()
        self.versions, self.files = dict(known.versions), dict(known.files)

    def expected(self, name: str, published: str | None = None) -> str | None:
        """The checksum that a file must have, if known."""
        return published or (self.files[name].sha256 if name in self.files else None)

    def take(self, kind: str, version: str) -> None:
        """Pin a version: later runs use it unless another is requested."""
        if self.versions.get(kind) != version:
            self._write({kind: version}, {})

    def pin(self, came: Mapping[str, Path]) -> None:
        """Pin the checksums of new files that passed their checks."""
        if new := {name: path for name, path in came.items() if name not in self.files}:
            self._write({}, {n: Listed(sha256=sha256(path), bytes=path.stat().st_size) for n, path in new.items()})

    def _write(self, versions: dict[str, str], files: dict[str, Listed]) -> None:
        """Add to the current file: other threads and processes write it, too."""
        with exclusive(self.path):
            there = Lock(self.path)
            self.versions, self.files = there.versions | versions, files | there.files
            listed = {name: entry.model_dump(exclude_none=True) for name, entry in sorted(self.files.items())}
            ordered = {"versions": dict(sorted(self.versions.items())), "files": listed}
            write_json(self.path, {name: values for name, values in ordered.items() if values})
