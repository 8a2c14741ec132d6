"""Where a dataset's videos come from: `datasets/<name>/dataset.yaml` names one provider."""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field

from um.datasets import annotations, demo
from um.datasets.annotations import SUBSETS, VIDEO_SUFFIXES, video_id
from um.datasets.folder import Folder
from um.errors import BadInput, some
from um.files import atomic, sha256, write_json
from um.forms import Section, read_json, validate
from um.params import Download
from um.progress import progress

if TYPE_CHECKING:
    from um.download.bring import Machine

DATASETS = Path("datasets")
OWN = "$source"  # the version of published features that is a folder of the user's


class Description(Section):
    """`dataset.yaml`."""

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


@dataclass(frozen=True)
class Source:
    """One video of a dataset: where it goes below `videos/`, and what puts it there."""

    file: str  # <subset>/<id>.<suffix>
    make: Callable[[Path], None]


def describe(dataset: str) -> Description:
    """Read `datasets/<name>/dataset.yaml`."""
    path = DATASETS / dataset / "dataset.yaml"
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(p.parent.name for p in DATASETS.glob("*/dataset.yaml"))) or "none here"
        raise BadInput(path, "no such file", f"a dataset among: {known}", "docs/datasets.md adds one") from None
    except yaml.YAMLError as error:
        raise BadInput(path, f"invalid YAML ({str(error).splitlines()[0]})", "a mapping", "see docs") from None
    return validate(Description, values, path)


def _expanded(given: str | None) -> str | None:
    source = os.path.expandvars(given or "")
    return None if not source or "$" in source else source


def location(dataset: str) -> Path:
    """Where a dataset's `source` is, environment variables and `~` expanded."""
    given = describe(dataset).source
    if (source := _expanded(given)) is None:
        found = f"source = {given!r}"
        path = DATASETS / dataset / "dataset.yaml"
        raise BadInput(path, found, "a folder (variables must be set)", "write its path")
    return Path(source).expanduser()


def has_videos(dataset: str, settings: Download) -> bool:
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
    version = read_json(root / "videos" / "index.json").get("features")
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

    A dataset that comes as features has no videos: `um.datasets.imported.bring` brings the features.

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
    sources: list[Source] = []
    if description.provider == "demo":
        plan = demo.plan(settings)
        sources = _rendered(plan, settings)
        write_json(out / "annotations.json", plan)
    elif description.provider == "local":
        folder = location(dataset)
        sources = _local(folder)
        _copy(folder / "annotations.json", out / "annotations.json")
    else:
        write_json(out / "annotations.json", annotations.database(Folder(location(dataset)).described()))
    videos = out / "videos"
    stale = {path for path in videos.glob("*/*") if path.is_file()} - {videos / source.file for source in sources}
    for path in stale if description.provider != "sources" else ():  # what was fetched stays
        path.unlink()
    files = {}
    with progress("videos", len(sources)) as step:
        for source in sources:
            path = videos / source.file
            source.make(path)
            files[source.file] = {"sha256": sha256(path), "bytes": path.stat().st_size}
            step(source.file)
    brought = {"features": OWN} if description.provider == "sources" else {}
    write_json(videos / "index.json", {"files": dict(sorted(files.items()))} | brought)


def _rendered(plan: dict[str, Any], settings: Download) -> list[Source]:
    def renderer(name: str) -> Callable[[Path], None]:
        return lambda path: demo.render(name, settings, path)

    return [Source(f"{entry['subset']}/{name}.mp4", renderer(name)) for name, entry in plan["database"].items()]


def _local(folder: Path) -> list[Source]:
    listed = annotations.load(folder / "annotations.json")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            name = video_id(path.stem)
            if name in found:
                raise BadInput(path, f"video {name} again", f"one file, as {found[name]}", "remove one of the two")
            found[name] = path
    used = [*listed.subset("train"), *listed.subset("test")]
    hint = f"compare the file names with {listed.path}"
    if missing := [video.id for video in used if video.id not in found]:
        raise BadInput(folder, f"no file for {some(missing)}", "a file per annotated video", hint)
    if unknown := sorted(set(found) - set(listed.videos)):
        raise BadInput(folder, f"{some(unknown)} without annotation", "annotated videos", hint)

    def copier(path: Path) -> Callable[[Path], None]:
        return lambda target: _copy(path, target)

    return [
        Source(f"{SUBSETS.get(v.subset, v.subset)}/{v.id}{found[v.id].suffix.lower()}", copier(found[v.id]))
        for v in used
    ]


def _copy(source: Path, target: Path) -> None:
    if target.exists() and sha256(target) == sha256(source):
        return
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def downloaded(root: Path) -> dict[str, Path]:
    """The videos that `download` brought to `data/<dataset>`: `<subset>/<id>` → file."""
    index = read_json(root / "videos" / "index.json")
    return {str(Path(file).with_suffix("")): root / "videos" / file for file in index["files"]}


def not_downloaded(root: Path) -> dict[str, str]:
    """The videos that it found missing: `<subset>/<id>` → why."""
    return dict(read_json(root / "videos" / "index.json").get("missing", {}))


def by_id(videos: Iterable[Path]) -> dict[str, Path]:
    """Loose video files by id, the file name without suffix."""
    named: dict[str, Path] = {}
    for path in videos:
        if path.stem in named:
            raise BadInput(path, f"the id {path.stem} again", f"one file, as {named[path.stem]}", "rename one")
        named[path.stem] = path
    return named
