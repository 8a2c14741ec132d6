"""One file of sources.yaml, from the first mirror or link that has it, checked."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from um.dataset import spelling, videos_below
from um.download import drive, http, youtube
from um.download.http import Report
from um.download.sources import File, Lock
from um.errors import BadInput, Gone
from um.files import lasting_name, make_folder, room, sha256
from um.forms import Index, read_json, validate
from um.journal import Journal, NotOurs
from um.shard import Shard

log = logging.getLogger(__name__)

LONGEST_INDEX = 100_000_000  # bytes that a mirror's index may have


class Place(NamedTuple):
    """Where one video is: a file or a link, and its checksum if it is known."""

    where: str
    sha256: str | None = None


@dataclass(frozen=True)
class Machine:
    """Settings of the machine and the user; none changes results.

    Attributes:
        mirrors: folders or URLs with `<dataset>/<file>`, tried before the links of the table.
        cookies: a browser's cookies for YouTube, in Netscape's format.
        connections: parallel downloads; None: as many as the hosts accept.
        keep: archives after unpacking.
        retry: videos that an earlier run listed as missing.
        give_up: list temporary failures as missing, too.
        date: of this run, for the list of missing videos.
        shard: share of the videos for this process.
        patience: timeouts and retry limits.
        nap: seconds between two videos of YouTube, at least and at most.
    """

    mirrors: Sequence[str] = ()
    cookies: Path | None = None
    connections: int | None = None
    keep: bool = False
    retry: bool = False
    give_up: bool = False
    date: str = "-"
    shard: Shard | None = None
    patience: http.Patience = http.PATIENCE
    nap: tuple[float, float] = (5.0, 10.0)  # what yt-dlp advises; a guest gets about 300 videos in an hour


MACHINE = Machine()


@dataclass(frozen=True)
class Fetcher:
    """What fetches the files and videos of one dataset."""

    dataset: str  # its name below a mirror
    lock: Lock
    machine: Machine
    kept: Journal  # of what came

    def file(self, file: File, target: Path, beside: str, report: Report) -> None:
        """Put a file, or a folder that is shared as one, at `target`; one in a mirror's folder is linked, not copied.

        Args:
            file: of the table.
            target: where it goes.
            beside: folder below the dataset's that also may hold it, in a mirror that is another project's data/.
            report: called with the bytes so far, and the total.

        Raises:
            NotOurs: somebody else's file is at `target`.
            BadInput: every place failed; Gone if none has it.
        """
        expected = self.lock.expected(file.file, file.sha256)
        failures: list[BadInput] = []
        for place in places(self.dataset, file, self.machine, beside):
            try:
                if drive.is_folder(place):
                    self._folder(place, target, file.file, report)
                elif is_page(place):
                    self._page(place, target, expected, report)
                else:
                    self._link(Path(place), target, file.file, expected)
                return
            except NotOurs:
                raise
            except BadInput as error:
                failures.append(error)
        raise _nowhere(f"{self.dataset}/{file.file}", file.pages, failures)

    def video(
        self, name: str, places: Sequence[Place], target: Path, report: Report, check: Callable[[Path], None]
    ) -> Path:
        """Fetch a video from the first place that gives a good one, and return it.

        Args:
            name: its id, for messages.
            places: where it may be.
            target: where it goes; the suffix may change.
            report: called with the bytes so far, and the total.
            check: raises Gone for a file that is not the whole video, BadInput for another one.

        Raises:
            NotOurs, Gone, BadInput: as `file` does.
        """
        failures: list[BadInput] = []
        for place in places:
            try:
                path = self._video(place, target, report)
                try:
                    check(path)
                except BadInput:
                    self.kept.refuse(self.kept.delete([path.relative_to(self.kept.root).as_posix()]))
                    raise
                return path
            except NotOurs:
                raise
            except BadInput as error:
                failures.append(error)
        kind = Gone if all(isinstance(error, Gone) for error in failures) else BadInput
        where = failures[0].where if len(failures) == 1 else f"{self.dataset}/{name}"
        raise kind(where, "; ".join(dict.fromkeys(e.found for e in failures)), "the whole video", failures[-1].hint)

    def _video(self, place: Place, target: Path, report: Report) -> Path:
        make_folder(target.parent)
        if youtube.is_youtube(place.where):
            order = http.Order(None, self.machine.patience, report, self.kept.admit)
            cookies, nap = self.machine.cookies, self.machine.nap
            return youtube.fetch(place.where, target.parent, target.stem, order, cookies=cookies, sleep=nap)
        if is_page(place.where):
            self._page(place.where, target, place.sha256, report)
            return target
        source = Path(place.where)
        if not source.is_file():
            raise Gone(source, "no such file", "a copy", "put one there")
        _check(source, place.sha256)
        target = target.with_suffix(source.suffix.lower())
        at = target.relative_to(self.kept.root).as_posix()
        with room(target, "a copy"), self.kept.write(at) as temporary:
            shutil.copyfile(source, temporary)
        return target

    def _page(self, url: str, target: Path, expected: str | None, report: Report) -> None:
        make_folder(target.parent)
        if http.there(target, expected):
            return
        self.kept.refuse([target.relative_to(self.kept.root).as_posix()])  # before it is on its way
        fetch = drive.fetch if drive.is_drive(url) else http.fetch
        fetch(url, target, http.Order(expected, self.machine.patience, report, self.kept.admit))

    def _folder(self, url: str, target: Path, name: str, report: Report) -> None:
        """Bring a shared folder, which gets its name once it is complete; another link may lead to another version."""
        if target.is_dir() and not target.is_symlink():
            return
        at = target.relative_to(self.kept.root).as_posix()
        self.kept.refuse([at])
        coming = target.with_name(lasting_name(Path(f"{name} {url}"), ".folder"))
        for link, inside in drive.listing(url, self.machine.patience):
            make_folder((coming / inside).parent)
            expected = self.lock.expected(f"{name}/{inside}")
            drive.fetch(link, coming / inside, http.Order(expected, self.machine.patience, report))
        self.kept.delete([at])
        for file in sorted(path for path in coming.rglob("*") if path.is_file()):
            self.kept.admit(file, target / file.relative_to(coming))
        coming.rename(target)

    def _link(self, source: Path, target: Path, name: str, expected: str | None) -> None:
        if not source.exists():
            raise Gone(source, "no such file", "a copy", "put one there")
        for part, path in parts(name, source).items():
            _check(path, expected or self.lock.expected(part))
        if target.exists() and target.resolve() == source.resolve():
            return
        make_folder(target.parent)
        try:
            self.kept.link(source.resolve(), target)
        except NotOurs:  # unless another shard has just made the same link
            if target.resolve() != source.resolve():
                raise


def is_page(url: str) -> bool:
    """Whether a mirror is a server's address, not a folder."""
    return url.startswith(("http://", "https://"))


def mirrors(listed: Sequence[str]) -> list[str]:
    """The environment's UM_MIRROR, then the listed ones, `~` and variables expanded; folders must be there."""
    given = [os.environ.get("UM_MIRROR", ""), *listed]
    expanded = [os.path.expandvars(mirror).rstrip("/") for mirror in given if mirror]
    found = [mirror if is_page(mirror) else str(Path(mirror).expanduser()) for mirror in expanded]
    if absent := [mirror for mirror in found if not is_page(mirror) and not Path(mirror).is_dir()]:
        raise BadInput(absent[0], "no such folder", "a mirror", "correct UM_MIRROR or `mirrors`, or leave it out")
    return found


def places(dataset: str, file: File, machine: Machine, beside: str = "") -> list[str]:
    """Where a file may be: folders and links, in the order of the tries."""
    inside = [file.file, f"{beside}/{file.file}"] if beside else [file.file]
    found = [(mirror, f"{dataset}/{name}") for mirror in machine.mirrors for name in inside]
    return [*(f"{m}/{quote(path) if is_page(m) else path}" for m, path in found), *file.urls]


def parts(name: str, path: Path) -> dict[str, Path]:
    """A file, or the visible files of a folder, by their names in the lock."""
    if not path.is_dir():
        return {name: path}
    inside = {file.relative_to(path): file for file in sorted(path.rglob("*")) if file.is_file()}
    return {(Path(name) / at).as_posix(): file for at, file in inside.items() if not any(p[0] == "." for p in at.parts)}


def _check(path: Path, expected: str | None) -> None:
    if expected and (found := sha256(path)) != expected:
        hint = "it is damaged, or another version than the one in sources.yaml or sources.lock.json"
        raise BadInput(path, f"sha256 {found}", f"sha256 {expected}", hint)


def copies(mirror: str, dataset: str, machine: Machine) -> dict[str, Place]:
    """The single videos of a mirror by id, from its folder, or from the `videos/index.json` of a server.

    A mirror that does not answer, or sends something else, counts as empty, with a warning.
    """
    where = f"{mirror}/{dataset}/videos"
    if not is_page(mirror):
        files = videos_below(Path(where)) if Path(where).is_dir() else ()
        return {spelling(path.stem): Place(str(path), None) for path in files}

    def bounded(done: int, _: int | None) -> None:
        if done > LONGEST_INDEX:
            raise BadInput(f"{where}/index.json", "a hundred megabytes", "an index of videos", "check the mirror")

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "index.json"
        try:
            http.fetch(f"{where}/index.json", path, http.Order(None, machine.patience, bounded))
            listed = validate(Index, read_json(path), f"{where}/index.json").files.items()
        except Gone:
            return {}
        except BadInput as error:
            log.warning("skipping single videos of a mirror: no index of videos: %s", error)
            return {}
    return {spelling(Path(name).stem): Place(f"{where}/{quote(name)}", entry.sha256) for name, entry in listed}


def _nowhere(what: str, pages: Sequence[str], failures: Sequence[BadInput]) -> BadInput:
    """The error for all places together: Gone if each of them is, or if none is listed."""
    kind = Gone if all(isinstance(error, Gone) for error in failures) else BadInput
    hint = failures[-1].hint if failures else f"put a copy at FOLDER/{what} and set UM_MIRROR=FOLDER"
    if other := next((error for error in failures if error.found.startswith("sha256")), None):
        hint = f"{other.hint}; to take it, delete the entry of {Path(what).name} there"
    elif pages:
        hint = f"get it by hand from {' or '.join(pages)}, as FOLDER/{what}, and set UM_MIRROR=FOLDER"
    if len(failures) == 1:
        return kind(failures[0].where, failures[0].found, failures[0].expected, hint)
    told = (e.found + (f", not {e.expected}" if e.found.startswith("sha256") else "") for e in failures)
    found = "; ".join(f"{text} at {e.where}" for text, e in zip(told, failures, strict=True)) or "no link to it"
    return kind(what, found, "a place that has it", hint)
