"""`datasets/<name>/dataset.yaml`, and the files of `data/<name>`."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from um.datasets.annotations import VIDEO_SUFFIXES, video_id
from um.errors import BadInput
from um.forms import Index, Section, Sha256, load, read_yaml, validate
from um.journal import check_apart
from um.params import PRESETS, Download

DATASETS, DATA = Path("datasets"), Path("data")
OWN = "$source"  # version name of features in the user's own folder
ANNOTATIONS, INDEX = "annotations.json", "videos/index.json"


class Description(Section):
    """`dataset.yaml`."""

    hint: ClassVar[str] = "docs/datasets.md explains dataset.yaml"

    title: str = Field("", description="name in the benchmark table")
    provider: Literal["demo", "local", "features", "sources"] = Field(
        description="demo: videos rendered here; local: your own videos; features: features in a public layout; "
        "sources: the downloads listed in its sources.yaml"
    )
    source: str | None = Field(
        None,
        description="local: folder with annotations.json and the videos; features: folder with annotations and "
        "features; sources: such a folder, instead of the listed features, if the variables in it are set",
    )


class Videos(Index):
    """`videos/index.json`."""

    hint = "delete it, then run `um download` again"

    features: Annotated[str, Field(pattern=r"^(\$source|[a-z0-9][a-z0-9.-]*)$")] | None = None
    origin: Sha256 | None = None


def root(dataset: str) -> Path:
    """The folder of a dataset's files."""
    return DATA / dataset


def facts_of(dataset: str) -> Path:
    """The folder that describes a dataset: `datasets/<name>` here, else among the presets of this package."""
    own, preset = DATASETS / dataset, PRESETS / DATASETS / dataset
    return preset if (preset / "dataset.yaml").is_file() and not os.path.lexists(own / "dataset.yaml") else own


def describe(dataset: str) -> Description:
    """Read `datasets/<name>/dataset.yaml`."""
    path = facts_of(dataset) / "dataset.yaml"
    files = [file for folder in (DATASETS, PRESETS / DATASETS) for file in folder.glob("*/dataset.yaml")]
    known = ", ".join(sorted({file.parent.name for file in files}))
    return validate(Description, read_yaml(path, f"one of {known}", "see docs/datasets.md to add one"), path)


def location(dataset: str) -> Path:
    """The `source` of a dataset, with environment variables and `~` expanded."""
    given = describe(dataset).source
    path, hint = facts_of(dataset) / "dataset.yaml", "set source to its path"
    source = expanded(given)
    if source is None or "\0" in source:
        raise BadInput(path, f"source = {given!r}", "a folder (variables must be set)", hint)
    try:
        return Path(source).expanduser()
    except RuntimeError:  # ~somebody
        raise BadInput(path, f"source = {given!r}", "an existing home folder", hint) from None


def expanded(given: str | None) -> str | None:
    """The path with variables expanded; None if it is empty or a variable is not set."""
    source = os.path.expandvars(given or "")
    return None if not source or re.search(r"\$(\w|\{)", source) else source


def check_source(dataset: str, out: Path) -> None:
    """Refuse to write a dataset over its originals.

    Raises:
        BadInput: `source` is inside `out`, or `out` inside `source`.
    """
    description = describe(dataset)
    if description.provider != "demo" and expanded(description.source) is not None:
        hint = f"move your files out of {out} and update source, or choose another --out"
        where = facts_of(dataset) / "dataset.yaml"
        for folder in (out, out / "videos", out / "features"):  # each may be a link
            check_apart(where, location(dataset), folder, hint)


def comes_as_videos(dataset: str, settings: Download) -> bool:
    """Whether features are extracted from videos, not imported."""
    provider = describe(dataset).provider
    return settings.what == "videos" if provider == "sources" else provider != "features"


def features_of(dataset: str, root: Path) -> Path | None:
    """The folder of the downloaded features; None if videos were downloaded."""
    provider = describe(dataset).provider
    if provider != "sources":
        return location(dataset) if provider == "features" else None
    version = index(root).features
    if version in (None, OWN):
        return location(dataset) if version else None
    return inner(features_folder(root, version))


def features_folder(out: Path, version: str) -> Path:
    """The folder of a version of the published features."""
    return out / "downloads/features" / version


def inner(folder: Path) -> Path:
    """The folder itself, or the only folder in it: some archives wrap all files in one."""
    if not folder.is_dir():
        raise BadInput(folder, "no such folder", "features fetched by um download", "run um download again")
    inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    if len(inside) == 1 and inside[0].is_dir() and inside[0].name != "features":
        return inner(inside[0])
    return folder


def index(root: Path) -> Videos:
    """`videos/index.json` of `data/<dataset>`.

    Raises:
        BadInput: no such file, or not an index.
    """
    path = root / INDEX
    if not os.path.lexists(path):
        raise BadInput(path, "no such file", "the index of `um download`", "run um download --dataset first")
    return load(Videos, path)


def downloaded(root: Path) -> dict[str, Path]:
    """The downloaded videos: `<subset>/<id>` → file."""
    return {str(Path(file).with_suffix("")): root / "videos" / file for file in index(root).files}


def not_downloaded(root: Path) -> dict[str, str]:
    """The missing videos: `<subset>/<id>` → reason."""
    return index(root).missing


def by_id(videos: Iterable[Path]) -> dict[str, Path]:
    """Video files by id, which is the file name without suffix."""
    named: dict[str, Path] = {}
    for path in videos:
        if path.stem in named:
            raise BadInput(path, f"duplicate id {path.stem}", f"one file, such as {named[path.stem]}", "rename one")
        named[path.stem] = path
    return named


def videos_below(folder: Path) -> Iterator[Path]:
    """The videos below a folder, except hidden files (such as macOS's `._*`); linked folders are visited once."""

    def fail(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        real = os.path.realpath(here)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        for name in [] if real in seen else sorted(files):
            path = Path(here, name)
            if path.suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".") and path.is_file():
                yield path
        seen.add(real)


def spelling(name: str) -> str:
    """A video's id in a normal form for comparison: file systems change the Unicode form of names."""
    return unicodedata.normalize("NFC", video_id(name))
