"""Where a dataset's videos come from: `datasets/<name>/dataset.yaml` names one provider."""

import logging
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from um.datasets import annotations
from um.datasets.annotations import SUBSETS, VIDEO_SUFFIXES, video_id
from um.errors import BadInput, some
from um.files import held, sha256, write_json
from um.forms import Index, Listed, Section, load, read_yaml, validate
from um.journal import AWAY, Journal, NotOurs, check_apart, check_name
from um.params import Download
from um.progress import progress

if TYPE_CHECKING:
    from um.download.bring import Machine
    from um.shard import Shard

log = logging.getLogger(__name__)

DATASETS = Path("datasets")
OWN = "$source"  # the version of published features that is a folder of the user's
VERB = "um download"
ANNOTATIONS, INDEX, JOURNAL = "annotations.json", "videos/index.json", "videos/journal.jsonl"


class Description(Section):
    """`dataset.yaml`."""

    hint: ClassVar[str] = "docs/datasets.md explains dataset.yaml"

    title: str = Field("", description="name in the benchmark table")
    provider: Literal["demo", "local", "features", "sources"] = Field(
        description="demo: videos rendered here; local: videos of yours; features: features in a public layout; "
        "sources: what the sources.yaml beside it lists"
    )
    source: str | None = Field(
        None,
        description="local: folder with annotations.json and the videos; features: folder of both of these; "
        "sources: the same, instead of the list's features, where the variables in it are set",
    )


class Videos(Index):
    """`videos/index.json`."""

    hint = "delete it, then run `um download` again"

    features: Annotated[str, Field(pattern=r"^(\$source|[a-z0-9][a-z0-9.-]*)$")] | None = None


@dataclass(frozen=True)
class Source:
    """One video of a dataset: where it goes below `videos/`, and what writes it there, or what it is a copy of."""

    file: str  # <subset>/<id>.<suffix>
    make: Callable[[Path], object]
    origin: Path | None = None


def describe(dataset: str) -> Description:
    """Read `datasets/<name>/dataset.yaml`."""
    path = DATASETS / dataset / "dataset.yaml"
    known = ", ".join(sorted(p.parent.name for p in DATASETS.glob("*/dataset.yaml"))) or "none here"
    return validate(Description, read_yaml(path, f"a dataset among: {known}", "docs/datasets.md adds one"), path)


def _expanded(given: str | None) -> str | None:
    source = os.path.expandvars(given or "")
    return None if not source or re.search(r"\$(\w|\{)", source) else source


def location(dataset: str) -> Path:
    """Where a dataset's `source` is, environment variables and `~` expanded."""
    given = describe(dataset).source
    path, hint = DATASETS / dataset / "dataset.yaml", "write its path"
    source = _expanded(given)
    if source is None or "\0" in source:
        raise BadInput(path, f"source = {given!r}", "a folder (variables must be set)", hint)
    try:
        return Path(source).expanduser()
    except RuntimeError:  # ~somebody
        raise BadInput(path, f"source = {given!r}", "a home that there is", hint) from None


def check_source(dataset: str, out: Path) -> None:
    """Refuse to write a dataset over its own originals.

    Raises:
        BadInput: its `source` lies in `out`, or the other way round.
    """
    description = describe(dataset)
    if description.provider != "demo" and _expanded(description.source) is not None:
        hint = f"move what is yours out of {out}, and write its new place as source; or choose another --out"
        where = DATASETS / dataset / "dataset.yaml"
        for folder in (out, out / "videos", out / "features"):  # of which each may be a link
            check_apart(where, location(dataset), folder, hint)


def comes_as_videos(dataset: str, settings: Download) -> bool:
    """Whether features are extracted from its videos; otherwise they are brought."""
    provider = describe(dataset).provider
    return settings.what == "videos" if provider == "sources" else provider != "features"


def is_shared(dataset: str, settings: Download) -> bool:
    """Whether several processes may share its download."""
    return describe(dataset).provider == "sources" and settings.what == "videos"


def features_of(dataset: str, root: Path) -> Path | None:
    """The folder of the features that `download` brought to `data/<dataset>`; None if it brought videos."""
    provider = describe(dataset).provider
    if provider != "sources":
        return location(dataset) if provider == "features" else None
    version = index(root).features
    if version in (None, OWN):
        return location(dataset) if version else None
    from um.download import bring

    return bring.inner(bring.features_folder(root, version))


def download(
    dataset: str,
    settings: Download,
    out: Path,
    machine: "Machine | None" = None,
) -> None:
    """Bring a dataset's annotations and videos to `out`, and list them in `videos/index.json`.

    A dataset that comes as features has no videos: `um.features.imported.bring` brings the features.

    Args:
        dataset: a folder of `datasets/`.
        settings: of the rendered demo, and which part of a dataset of sources.yaml.
        out: `data/<dataset>`.
        machine: how a dataset of sources.yaml is fetched.

    Raises:
        BadInput: no such dataset, annotations that are wrong, a video without annotation or the reverse; what cannot
            be fetched.
    """
    description = describe(dataset)
    own = (settings.what, settings.source) == ("features", "auto") and _expanded(description.source) is not None
    if own and description.provider == "sources" and not location(dataset).is_dir():
        hint = f"that is where {description.source} leads; without the variable they are downloaded"
        raise BadInput(location(dataset), "no such folder", "features of yours", hint)
    if description.provider == "sources" and not own:
        from um.download import bring  # not above: planning the workflow does without the libraries of downloads

        bring.bring(dataset, DATASETS / dataset, settings, out, machine or bring.MACHINE)
        return
    if machine and machine.shard:
        raise BadInput("--shard", f"{dataset}, which is not fetched", "a dataset of sources.yaml", "leave it out")
    check_source(dataset, out)
    sources: list[Source] = []
    annotated: dict[str, Any] | Path
    if description.provider == "demo":
        from um.demo import videos  # not above: as with the libraries of downloads

        annotated = videos.plan(settings)
        sources = _rendered(annotated, settings)
    elif description.provider == "local":
        annotated = location(dataset) / ANNOTATIONS
        sources = _local(location(dataset))
    else:
        from um.datasets.folder import Folder  # not above, either

        annotated = annotations.database(Folder(location(dataset)).described())
    brought = {"features": OWN} if description.provider == "sources" else {}
    with at_work(dataset, out) as journal:
        describe_in(journal, annotated)
        if description.provider != "sources":  # what was fetched stays
            _prune(journal, {f"videos/{source.file}" for source in sources})
        files = _make(journal, sources)
        index_in(journal, {"files": dict(sorted(files.items()))} | brought)


@contextmanager
def at_work(dataset: str, out: Path, shard: "Shard | None" = None) -> Iterator[Journal]:
    """Take a download's folder, alone or with other shards, and give the journal of what was written to it.

    Raises:
        BadInput: another command is at work there, or files of somebody else's are where ours belong.
    """
    with held(out, f"{VERB} --dataset {dataset}" + (f" --shard {shard}" if shard else ""), shared=shard is not None):
        journal = Journal(out, out / JOURNAL, VERB).read()
        if not os.path.lexists(out / JOURNAL) and os.path.lexists(out / INDEX):  # of an earlier version
            try:
                listed = load(Videos, out / INDEX)
            except BadInput as error:
                raise BadInput(error.where, error.found, error.expected, AWAY) from None
            for file, entry in listed.files.items():
                journal.learn(f"videos/{file}", entry)
            journal.learn(INDEX, Listed(sha256=sha256(out / INDEX)))
        journal.refuse([INDEX])
        yield journal


def describe_in(journal: Journal, annotated: dict[str, Any] | Path) -> None:
    """Write `annotations.json`, or copy it."""
    if not isinstance(annotated, Path):
        with journal.write(ANNOTATIONS) as temporary:
            write_json(temporary, annotated)
    elif not _same(annotated, journal.root / ANNOTATIONS):
        with journal.write(ANNOTATIONS) as temporary:
            shutil.copyfile(annotated, temporary)


def index_in(journal: Journal, value: dict[str, Any]) -> None:
    """Write `videos/index.json`, which ends a download."""
    with journal.write(INDEX) as temporary:
        write_json(temporary, value)
    journal.settle([ANNOTATIONS, INDEX, *(f"videos/{file}" for file in value["files"])])


def _prune(journal: Journal, listed: set[str]) -> None:
    """Delete videos of ours that are no longer listed; say how many others there are."""
    videos = journal.root / "videos"
    journal.delete(
        sorted(path for path in journal.known if path.startswith("videos/") and path not in {INDEX, *listed})
    )
    there = {path.relative_to(journal.root).as_posix() for path in videos.glob("[!.]*/[!.]*") if path.is_file()}
    if others := sorted(there - listed):
        log.warning("%s: %s that are no videos of this dataset stay as they are", videos, some(others, "file", "files"))


def _make(journal: Journal, sources: list[Source]) -> dict[str, dict[str, str | int]]:
    """Write the videos that are not there yet; what the index says of each."""
    files: dict[str, dict[str, str | int]] = {}
    refused: list[str] = []
    with progress("videos", len(sources)) as step:
        for source in sources:
            name, target = f"videos/{source.file}", journal.root / "videos" / source.file
            try:
                if source.origin is None or not _same(source.origin, target):
                    with journal.write(name) as temporary:
                        source.make(temporary)
                files[source.file] = {"sha256": sha256(target), "bytes": target.stat().st_size}
            except NotOurs:
                refused.append(name)
            step(source.file)
    if refused:
        raise journal.not_ours(refused)
    return files


def _rendered(plan: dict[str, Any], settings: Download) -> list[Source]:
    from um.demo import videos

    def renderer(name: str) -> Callable[[Path], None]:
        return lambda path: videos.render(name, settings, path)

    return [Source(f"{entry['subset']}/{name}.mp4", renderer(name)) for name, entry in plan["database"].items()]


def _local(folder: Path) -> list[Source]:
    listed = annotations.load(folder / ANNOTATIONS)
    found: dict[str, Path] = {}
    for path in videos_below(folder):
        name = spelling(path.stem)
        if name in found:
            raise BadInput(path, f"video {name} again", f"one file, as {found[name]}", "rename one, or move it away")
        found[name] = path
    used = [*listed.subset("train"), *listed.subset("test")]
    names = {video.id: spelling(video.id) for video in used}
    hint = f"compare the file names with {listed.path}"
    if missing := [video.id for video in used if names[video.id] not in found]:
        raise BadInput(folder, f"no file for {some(missing)}", "a file per annotated video", hint)
    if unknown := sorted(set(found) - {spelling(name) for name in listed.videos}):
        raise BadInput(folder, f"{some(unknown)} without annotation", "annotated videos", hint)
    if len(set(names.values())) < len(names):
        first = next(name for name in names if list(names.values()).count(names[name]) > 1)
        raise BadInput(listed.path, f"video {first!r} in two Unicode spellings", "every id once", "remove one")

    def copier(path: Path) -> Callable[[Path], object]:
        return lambda target: shutil.copyfile(path, target)

    sources = []
    for video in used:
        path = found[names[video.id]]
        file = f"{video.id}{path.suffix.lower()}"
        check_name(path, file)
        sources.append(Source(f"{SUBSETS.get(video.subset, video.subset)}/{file}", copier(path), path))
    return sources


def spelling(name: str) -> str:
    """A video's id in the one form of Unicode by which names are compared: file systems change it."""
    return unicodedata.normalize("NFC", video_id(name))


def videos_below(folder: Path) -> Iterator[Path]:
    """The videos below a folder: hidden files, as a Mac's doubles, are none; linked folders are looked through once."""

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


def _same(source: Path, target: Path) -> bool:
    return target.is_file() and target.stat().st_size == source.stat().st_size and sha256(target) == sha256(source)


def index(root: Path) -> Videos:
    """`videos/index.json` of `data/<dataset>`.

    Raises:
        BadInput: there is none, or something else.
    """
    path = root / INDEX
    if not os.path.lexists(path):
        raise BadInput(path, "no such file", "what `um download` lists", "run um download --dataset first")
    return load(Videos, path)


def downloaded(root: Path) -> dict[str, Path]:
    """The videos that `download` brought to `data/<dataset>`: `<subset>/<id>` → file."""
    return {str(Path(file).with_suffix("")): root / "videos" / file for file in index(root).files}


def not_downloaded(root: Path) -> dict[str, str]:
    """The videos that it found missing: `<subset>/<id>` → why."""
    return index(root).missing


def by_id(videos: Iterable[Path]) -> dict[str, Path]:
    """Loose video files by id, the file name without suffix."""
    named: dict[str, Path] = {}
    for path in videos:
        if path.stem in named:
            raise BadInput(path, f"the id {path.stem} again", f"one file, as {named[path.stem]}", "rename one")
        named[path.stem] = path
    return named
