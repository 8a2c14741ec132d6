"""The videos of a dataset, each from the first place that has it; those that are not to be had are listed, and why.

A video is looked for among the single videos of the mirrors, then in the versions of sources.yaml: in archives, or by
a link of its own. What is not there, or is no whole video, goes to `datasets/<name>/missing.tsv`, and is not looked
for again unless it is asked for.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from um.datasets.annotations import SLACK, VIDEO_SUFFIXES, Video, video_id
from um.download import archive, missing, partial, youtube
from um.download.bring import CONNECTIONS, Site, in_parallel, remove
from um.download.missing import Row
from um.download.obtain import Place, copies, obtain_video, places
from um.download.sources import Alternative, File, is_page
from um.errors import BadInput, Gone, some
from um.files import sha256, sweep, write_json
from um.progress import transfers
from um.video.probe import seconds

log = logging.getLogger(__name__)

TOO_SHORT = 2.0  # seconds that a video may lack of its annotated duration
YOUTUBE = 1  # video at a time, unless the user wants more: it shuts out those who ask too much
IN_A_ROW = 10  # videos that fail one after the other, for a reason that may pass, before the others are left for later


def bring_videos(site: Site, videos: list[Video], listed_missing: Path) -> None:
    """Bring videos to `videos/<subset>/<id>.<suffix>`, and list them in `videos/index.json`.

    Args:
        site: the dataset.
        videos: all that are annotated.
        listed_missing: its `missing.tsv`.

    Raises:
        BadInput: some could not be fetched for a reason that may pass, after all others; or there is none.
    """
    collection = _Collection(site, videos, missing.read(listed_missing))
    for version in site.chosen("videos", site.settings.source):
        collection.single(version)
        collection.archived(version)
    collection.settle()
    if shard := site.machine.shard:
        missing.write(collection.folder / f"shards/{shard}.tsv", collection.found_missing)
    collection.stop_if_unfinished()
    if not site.machine.shard:
        collection.close(listed_missing)


class _Collection:
    """What is there of a dataset's videos, and what is not.

    Attributes:
        folder: `data/<dataset>/videos`.
        there: id → file.
        found_missing: id → row of missing.tsv, of videos that the shards before this run found missing.
        gone: the same of this run; a version of sources.yaml may still have what another has not.
        failed: id → why it could not be fetched this time.
    """

    def __init__(self, site: Site, videos: list[Video], known: Mapping[str, Row]) -> None:
        self.site, self.videos, self.known = site, {video.id: video for video in videos}, known
        self.folder = site.out / "videos"
        files = [path for path in sorted(self.folder.glob("*/*")) if path.suffix.lower() in VIDEO_SUFFIXES]
        placed = {video.id: self.folder / video.subset for video in videos}
        self.there = {path.stem: path for path in files if placed.get(path.stem) == path.parent}
        self.found_missing: dict[str, Row] = {}
        if not site.machine.shard:
            sweep(self.folder.rglob(".*"))
            for file in self._of_shards():
                self.found_missing |= missing.read(file)
        self.gone: dict[str, Row] = {}
        self.failed: dict[str, BadInput] = {}
        ways = site.machine.ways
        self.mirrored = [copies(mirror, site.dataset, ways) for mirror in ways.mirrors]

    def _of_shards(self) -> list[Path]:
        return sorted((self.folder / "shards").glob("*-of-*.tsv"))

    def todo(self) -> set[str]:
        """Ids, of all shards, that are still to be looked for."""
        tried = {name for name, row in self.known.items() if row.date != "-" and not self.site.machine.retry}
        return set(self.videos) - set(self.there) - set(self.found_missing) - tried

    def single(self, version: Alternative) -> None:
        """Videos that mirrors have one by one, and those that have a link of their own."""
        machine, left = self.site.machine, self.todo()
        found_at: dict[str, list[Place]] = {}
        for name in machine.shard.of(self.videos) if machine.shard else sorted(self.videos):
            subset = self.videos[name].subset
            links = [u for file in version.files if file.each and file.subset in (None, subset) for u in file.urls]
            found = [copy[name] for copy in self.mirrored if name in copy]
            found += [Place(url.format(id=name, subset=subset)) for url in links]
            if found and name in left:
                found_at[name] = found
        in_a_row = 0
        with transfers("videos", len(found_at)) as begin:

            def one(name: str) -> None:
                nonlocal in_a_row
                if in_a_row >= IN_A_ROW:
                    return
                folder, key = self.folder / self.videos[name].subset, f"{self.site.dataset}/{name}"
                try:
                    with begin(name) as report:
                        self.enter(name, obtain_video(key, found_at[name], folder, name, machine.ways, report))
                except Gone as error:
                    self.miss(name, error.found, found_at[name][-1].where)
                except BadInput as error:
                    self.failed[name] = error
                    in_a_row += 1
                    return
                in_a_row = 0

            if any(youtube.is_youtube(place.where) for found in found_at.values() for place in found):
                in_parallel(one, list(found_at), machine.connections or YOUTUBE)
            else:
                in_parallel(one, list(found_at), machine.connections or CONNECTIONS)

    def archived(self, version: Alternative) -> None:
        """Videos that are in archives; shards share these by name."""
        shard = self.site.machine.shard
        files = {file.file: file for file in version.files if not file.each}
        for name in shard.of(files) if shard else sorted(files):
            file = files[name]
            wanted = {i for i in self.todo() if file.subset in (None, self.videos[i].subset)}
            try:
                if wanted:
                    self._unpack(file, self.site.out / "downloads/packed" / version.name, wanted)
            except BadInput as error:
                self.failed[name] = error

    def _unpack(self, file: File, folder: Path, wanted: set[str]) -> None:
        def place(name: str) -> Path | None:
            path = Path(name)
            found = video_id(path.stem)
            if found not in wanted or path.suffix.lower() not in VIDEO_SUFFIXES:
                return None
            return self.folder / self.videos[found].subset / f"{found}{path.suffix.lower()}"

        packed = self._packed(file, folder, lambda name: place(name) is not None)
        try:
            made = archive.extract(packed, place, password=os.environ.get("UM_ARCHIVE_PASSWORD"))
        finally:
            if packed.name != file.file:
                partial.remove(packed)
        for path in made.values():
            try:
                self._verify(f"{file.file}/{path.name}", path)
                self.enter(path.stem, path)
            except Gone as error:
                self.miss(path.stem, error.found, file.file)
        for name in wanted - {path.stem for path in made.values()}:
            self.miss(name, f"not in {file.file}", file.file)
        if packed.name == file.file and not self.site.machine.keep:
            remove(packed)

    def _packed(self, file: File, folder: Path, wanted: Callable[[str], bool]) -> Path:
        """An archive; of a zip on a server that gives parts of it, and without a checksum, the wanted ones alone."""
        sparse, ways = folder / f".{file.file}.sparse", self.site.machine.ways
        in_parts = file.sha256 is None and not self.site.machine.keep
        for place in places(self.site.dataset, file, ways) if in_parts else []:
            if Path(place).exists():
                break
            if is_page(place):
                with suppress(BadInput), transfers("files", 1) as begin, begin(file.file) as report:
                    if partial.fetch(place, sparse, wanted, patience=ways.patience, report=report):
                        return sparse
        return self.site.fetch([file], folder)[0]

    def _verify(self, name: str, path: Path) -> None:
        """Hold a video of an archive against the one that came first: not every archive comes whole."""
        expected = self.site.lock.expected(name)
        if expected and (found := sha256(path)) != expected:
            path.unlink()
            raise BadInput(
                name, f"sha256 {found}", f"sha256 {expected}", "it is another version; see sources.lock.json"
            )
        self.site.lock.pin(name, path)

    def enter(self, name: str, path: Path) -> None:
        """Take a video that came, if it is one and as long as its annotation; otherwise it is deleted and Gone."""
        video = self.videos[name]
        try:
            length = seconds(path)
            first = min((instance.end for instance in video.instances), default=0.0)  # four in THUMOS14 lack the last
            needed = first - SLACK if video.duration is None else video.duration - TOO_SHORT
            if length is not None and length < needed:
                raise BadInput(path, f"too short: {length:.1f} s of {needed:.1f} s", "all of it", "it was cut")
        except BadInput as error:
            path.unlink()
            raise Gone(error.where, error.found, error.expected, error.hint) from None
        self.there[name] = path

    def miss(self, name: str, reason: str, source: str) -> None:
        """Enter a video as missing."""
        self.gone[name] = Row(reason, self.site.machine.date, source)

    def settle(self) -> None:
        """What no version had is missing, and what another version had has not failed."""
        if not self.site.machine.shard:
            for name in self.todo() - set(self.gone) - set(self.failed):
                self.miss(name, "in none of the sources", " ".join(version.name for version in self.site.table.videos))
        self.found_missing |= {name: row for name, row in self.gone.items() if name not in self.there}
        self.failed = {name: error for name, error in self.failed.items() if name not in self.there}

    def stop_if_unfinished(self) -> None:
        """End with what could not be fetched this time."""
        if self.failed:
            name, error = min(self.failed.items())
            if len(self.failed) == 1:
                raise error
            found = f"{some(sorted(self.failed), 'file', 'files')} that did not come; {name}: {error.found}"
            raise BadInput(self.site.dataset, found, "every file, or word that it is gone", f"{error.hint}; run again")

    def close(self, listed_missing: Path) -> None:
        """Write the index and the list of missing videos; delete videos that are not annotated."""
        absent = {i: self.found_missing.get(i) or self.known[i] for i in sorted(self.videos) if i not in self.there}
        if not self.there:
            first = next(iter(absent.values()))
            raise BadInput(self.site.dataset, f"no video at all ({first.reason})", "videos", "look into the links")
        untried = {name: row for name, row in self.known.items() if row.date == "-" and name not in absent}
        missing.write(listed_missing, untried | absent)
        for stale in set(self.folder.glob("*/*")) - set(self.there.values()):
            remove(stale)  # a video that is not annotated, or the part of one that is missing
        if absent:
            log.warning("%s: %s missing, see %s", self.site.dataset, some(list(absent)), listed_missing)
        reasons = {f"{self.videos[name].subset}/{name}": row.reason for name, row in absent.items()}
        write_json(
            self.folder / "index.json",
            {"files": self._described(self.there.values())} | ({"missing": reasons} if reasons else {}),
        )

    def _described(self, paths: Iterable[Path]) -> dict[str, dict[str, str | int]]:
        listed = sorted(paths)
        sums = in_parallel(sha256, listed, CONNECTIONS)
        return {
            path.relative_to(self.folder).as_posix(): {"sha256": digest, "bytes": path.stat().st_size}
            for path, digest in zip(listed, sums, strict=True)
        }
