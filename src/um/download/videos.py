"""The videos of a dataset, each from the first place that has it; missing ones are listed with the reason.

The mirrors come first, then the versions of sources.yaml: by the video's own link, or in archives. A video stays in
`downloads/coming/` until it is checked, so that `videos/` only holds whole ones. Missing or incomplete videos are
listed in `datasets/<name>/missing.tsv`, and are tried again only on request.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from um.dataset import spelling
from um.datasets.annotations import SLACK, VIDEO_SUFFIXES, Video
from um.download import archive, missing, partial, youtube
from um.download.http import Order, shown
from um.download.missing import Row
from um.download.obtain import Place, copies, is_page, places
from um.download.site import CONNECTIONS, SHARDS, Site, in_parallel, index_in, remove
from um.download.sources import Alternative, File
from um.errors import BadInput, Gone, some
from um.files import lasting_name, make_folder, sha256
from um.journal import AWAY, Journal, NotOurs
from um.progress import transfers
from um.video.probe import seconds

log = logging.getLogger(__name__)

TOO_SHORT = 2.0  # seconds that a video may lack of its annotated duration
YOUTUBE = 1  # video at a time, unless the user wants more: it blocks heavy users
IN_A_ROW = 10  # temporary failures in a row, after which the rest is left for later


def bring_videos(site: Site, videos: list[Video], listed_missing: Path, journal: Journal) -> None:
    """Download videos to `videos/<subset>/<id>.<suffix>`, and list them in `videos/index.json`.

    Args:
        site: the dataset.
        videos: all that are annotated.
        listed_missing: its `missing.tsv`.
        journal: of the folder.

    Raises:
        BadInput: some failed for a temporary reason, reported after all others are done; or no video is available.
    """
    collection = _Collection(site, videos, missing.read(listed_missing))
    for version in collection.versions:
        collection.single(version)
        collection.archived(version)
    collection.settle()
    if shard := site.machine.shard:
        missing.write(collection.shards / f"{shard}.tsv", collection.found_missing)
    collection.stop_if_unfinished()
    if not site.machine.shard:
        collection.close(listed_missing, journal)


class _Unasked(BadInput):
    """A video that was left for later."""


class _Collection:
    """The state of a dataset's videos.

    Attributes:
        folder: `data/<dataset>/videos`.
        named: the videos by the one spelling of their ids.
        there: id → file.
        found_missing: id → row of missing.tsv, of videos that this run, or the shards before it, found missing.
        gone: the same, while another version of sources.yaml may still have them.
        failed: id, or archive → why it could not be fetched this time.
        pinned: id → sha256 of the video that first came in an archive.
        lacking: archive that failed → ids that were expected from it.
    """

    def __init__(self, site: Site, videos: list[Video], known: Mapping[str, Row]) -> None:
        self.site, self.videos, self.known = site, {video.id: video for video in videos}, known
        self.versions = site.chosen("videos", site.settings.source)
        self.folder, self.coming = site.out / "videos", site.out / "downloads/coming"
        self.shards = site.out / SHARDS
        self.named = {spelling(video.id): video for video in videos}
        self.there = {
            video.id: path
            for path in sorted(self.folder.glob("*/[!.]*"))
            if (video := self.named.get(spelling(path.stem))) and path.suffix.lower() in VIDEO_SUFFIXES
            if path.parent == self.folder / video.subset and path.is_file()
        }
        self.found_missing: dict[str, Row] = {}
        if not site.machine.shard:
            for file in sorted(self.shards.glob("*-of-*.tsv")):
                self.found_missing |= missing.read(file)
        inside = {Path(name): entry.sha256 for name, entry in site.lock.files.items() if "/" in name}
        self.pinned = {path.stem: digest for path, digest in inside.items() if path.suffix in VIDEO_SUFFIXES}
        self.gone: dict[str, Row] = {}
        self.failed: dict[str, BadInput] = {}
        self.lacking: dict[str, set[str]] = {}
        self.mirrored = [copies(mirror, site.dataset, site.machine) for mirror in site.machine.mirrors]

    def todo(self) -> set[str]:
        """Ids, of all shards, that remain to be tried."""
        left = set(self.videos) - set(self.there) - set(self.found_missing)
        if self.site.machine.retry or self.site.settings.source != "auto":
            return left
        tried = {name for name, row in self.known.items() if row.date != "-"}
        return left - {name for name in tried if not any(spelling(name) in copy for copy in self.mirrored)}

    def single(self, version: Alternative) -> None:
        """Fetch the single videos of mirrors, and videos with a link of their own."""
        machine, left = self.site.machine, self.todo()
        found_at: dict[str, list[Place]] = {}
        for name in machine.shard.of(self.videos) if machine.shard else sorted(self.videos):
            subset = self.videos[name].subset
            links = [u for file in version.files if file.each and file.subset in (None, subset) for u in file.urls]
            found = [copy[spelling(name)] for copy in self.mirrored if spelling(name) in copy]
            found += [Place(url.format(id=quote(name, safe=""), subset=quote(subset, safe=""))) for url in links]
            if found and name in left:
                found_at[name] = found
        suffix = next((Path(file.file).suffix for file in version.files if file.each), ".mp4")
        slow = any(youtube.is_youtube(place.where) for found in found_at.values() for place in found)
        in_a_row = 0
        with transfers("videos", len(found_at)) as begin:

            def one(name: str) -> None:
                nonlocal in_a_row
                target = self.coming / self.videos[name].subset / f"{name}{suffix}"
                if in_a_row >= IN_A_ROW:
                    found = f"skipped after {IN_A_ROW} failures in a row"
                    self.failed[name] = _Unasked(self.site.dataset, found, "an answer", "try later")
                    return
                try:
                    with begin(name) as report:
                        path = self.site.video(name, found_at[name], target, report, lambda it: self.check(name, it))
                    self.enter(name, path)
                except NotOurs as error:
                    self.failed[name] = error
                except Gone as error:
                    self.miss(name, error.found, *(place.where for place in found_at[name]))
                except BadInput as error:
                    self.failed[name] = error
                    in_a_row += 1
                    return
                in_a_row = 0

            in_parallel(one, list(found_at), machine.connections or (YOUTUBE if slow else CONNECTIONS))

    def archived(self, version: Alternative) -> None:
        """Fetch videos in archives; shards divide these by name."""
        shard = self.site.machine.shard
        files = {file.file: file for file in version.files if not file.each}
        for name in shard.of(files) if shard else sorted(files):
            file = files[name]
            wanted = {i for i in self.todo() if file.subset in (None, self.videos[i].subset)}
            alone = sum(other.subset in (None, file.subset) for other in files.values()) == 1
            try:
                if wanted:
                    self._unpack(file, self.site.out / "downloads/packed" / version.name, wanted, alone)
            except BadInput as error:
                self.failed[name], self.lacking[name] = error, wanted

    def _unpack(self, file: File, folder: Path, wanted: set[str], alone: bool) -> None:
        """Take the wanted videos from an archive; absent ones are missing, if no other archive may have them."""

        def place(name: str) -> Path | None:
            path = Path(name)
            video, suffix = self.named.get(spelling(path.stem)), path.suffix.lower()
            if video is None or video.id not in wanted or suffix not in VIDEO_SUFFIXES or path.name.startswith("."):
                return None
            return self.coming / video.subset / f"{video.id}{suffix}"

        password, whole = os.environ.get(archive.PASSWORD), True
        try:
            packed, whole = self._packed(file, folder, lambda name: place(name) is not None, password)
            made = archive.extract(packed, place, password=password, kept=self.site.kept).values()
        except archive.Locked as locked:
            where, hint = f"{self.site.dataset}/{file.file}", " ".join([locked.hint, *file.pages])
            raise BadInput(where, locked.found, locked.expected, hint) from None
        except archive.Damaged:
            if not whole:
                partial.remove(packed)
            raise
        wrong = [error for path in made if (error := self._take(file, path))]
        for name in wanted - {path.stem for path in made} if alone else ():
            self.miss(name, f"not in {file.file}", file.file)
        if wrong and not isinstance(wrong[0], Gone):
            raise wrong[0]
        if not whole:
            partial.remove(packed)
        elif packed.is_symlink() or not self.site.machine.keep:
            remove(self.site.kept, packed)

    def _take(self, file: File, path: Path) -> BadInput | None:
        """Check a video of an archive and take it, or say what is wrong."""
        try:
            self.check(path.stem, path)
        except BadInput as error:
            self.site.kept.delete([path.relative_to(self.site.out).as_posix()])
            if isinstance(error, Gone):
                self.miss(path.stem, error.found, file.file)
            return error
        self.site.lock.pin({f"{file.file}/{path.name}": path})
        try:
            self.enter(path.stem, path)
        except NotOurs as error:
            return error
        return None

    def _packed(self, file: File, folder: Path, wanted: partial.Wanted, password: str | None) -> tuple[Path, bool]:
        """An archive; for a zip without a checksum, only the wanted members if the server sends ranges."""
        sparse, machine = folder / lasting_name(Path(file.file), ".sparse"), self.site.machine
        known = file.sha256 or (folder / file.file).is_file()
        for place in [] if known or self.site.machine.keep else places(self.site.dataset, file, machine):
            if Path(place).exists():
                break
            if not is_page(place):
                continue
            try:
                with transfers("files", 1) as begin, begin(file.file) as report:
                    if partial.fetch(place, sparse, wanted, Order(None, machine.patience, report), password):
                        return sparse, False
            except archive.Locked:
                raise
            except BadInput as error:
                log.debug("%s", error)
        return self.site.fetch([file], folder)[0], True

    def check(self, name: str, path: Path) -> None:
        """Raise Gone if the file is no video or is too short; BadInput if its sha256 is not the pinned one."""
        video = self.videos[name]
        try:
            length = seconds(path)
        except BadInput as error:
            raise Gone(error.where, error.found, error.expected, error.hint) from None
        ends = [instance.end for instance in video.instances] or [0.0]
        last = min(ends) if name in self.site.table.past_the_end else max(ends)
        needed = last - SLACK if video.duration is None else video.duration - TOO_SHORT
        if length is not None and length < needed:
            raise Gone(path, f"too short: {length:.1f} s of {needed:.1f} s", "the whole video", "find a complete copy")
        expected = self.pinned.get(name)
        if expected and (found := sha256(path)) != expected:
            hint = "another version; to take it, delete the entry in sources.lock.json"
            raise BadInput(f"{self.site.dataset}/{name}", f"sha256 {found}", f"sha256 {expected}", hint)

    def enter(self, name: str, path: Path) -> None:
        """Give a video that is checked its place, where nothing may be."""
        target = self.folder / self.videos[name].subset / path.name
        make_folder(target.parent)
        if os.path.lexists(target):
            raise NotOurs(target, "a folder, a broken link or another file", "nothing, or the video", AWAY)
        path.rename(target)
        self.there[name] = target
        self.failed.pop(name, None)

    def miss(self, name: str, reason: str, *where: str) -> None:
        """Enter a video as missing, unless another version has it."""
        mirrors = self.site.machine.mirrors
        sources = ["mirror" if place.startswith(tuple(mirrors)) else shown(place) for place in where]
        self.gone[name] = Row(reason, self.site.machine.date, " ".join(dict.fromkeys(sources)))

    def settle(self) -> None:
        """List videos that no version had as missing, except those that a failed link or archive may have."""
        self.lacking = {name: wanted - self.there.keys() for name, wanted in self.lacking.items()}
        self.failed = {
            name: e for name, e in self.failed.items() if name not in self.there and self.lacking.get(name, {name})
        }
        undecided = {i: e for name, e in self.failed.items() for i in self.lacking.get(name, {name})}
        if self.site.machine.give_up:
            for name, error in undecided.items():
                self.miss(name, error.found, *(version.name for version in self.versions))
            self.failed = {name: error for name, error in self.failed.items() if isinstance(error, _Unasked)}
            undecided = self.failed
        if not self.site.machine.shard:
            for name in self.todo() - set(self.gone) - set(undecided):
                self.miss(name, "in none of the sources", *(version.name for version in self.versions))
        self.found_missing |= {n: row for n, row in self.gone.items() if n not in self.there and n not in undecided}

    def stop_if_unfinished(self) -> None:
        """End with what could not be fetched this time."""
        if self.failed:
            if len(self.failed) == 1:
                raise next(iter(self.failed.values()))
            name, error = min(self.failed.items(), key=lambda item: (isinstance(item[1], _Unasked), item[0]))
            found = f"{some(sorted(self.failed), 'file', 'files')} that could not be fetched; {name}: {error.found}"
            hint = f"{error.hint}; run again, or with --give-up"
            raise BadInput(self.site.dataset, found, "every file fetched or reported gone", hint)

    def close(self, listed_missing: Path, journal: Journal) -> None:
        """Write the index and the list of missing videos; say how many files are not annotated."""
        absent = {i: self.found_missing.get(i) or self.known[i] for i in sorted(self.videos) if i not in self.there}
        if not self.there:
            first = next(iter(absent.values()))
            raise BadInput(self.site.dataset, f"no video at all ({first.reason})", "videos", "check the links")
        kept = {n: row for n, row in self.known.items() if n not in self.there or row.date == "-"}
        missing.write(listed_missing, kept | absent)
        others = sorted(set(self.folder.glob("[!.]*/[!.]*")) - set(self.there.values()))
        if names := [self._named(path) for path in others]:
            log.warning("%s: %s that are not annotated stay as they are", self.folder, some(names, "file", "files"))
        if absent:
            log.warning("%s: %s missing, see %s", self.site.dataset, some(list(absent)), listed_missing)
        reasons = {f"{self.videos[name].subset}/{name}": row.reason for name, row in absent.items()}
        files = self._described()
        index_in(journal, {"files": files} | ({"missing": reasons} if reasons else {}))
        for path in self.coming.glob("*/.um-*"):  # parts of videos that another place gave
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if self.coming.is_dir():
            remove(self.site.kept, self.coming)

    def _described(self) -> dict[str, dict[str, str | int]]:
        paths = sorted(self.there.values())
        sums = zip(paths, in_parallel(sha256, paths, CONNECTIONS), strict=True)
        return {self._named(path): {"sha256": digest, "bytes": path.stat().st_size} for path, digest in sums}

    def _named(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()
