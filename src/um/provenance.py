"""The hand-shake between Snakemake, which does the work, and DVC, which keeps the ledger."""

import base64
import contextlib
import fnmatch
import hashlib
import io
import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import count, product
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from um import params
from um.errors import BadInput, some
from um.files import atomic, held, make_folder, sha256
from um.forms import Form, Index, Inside, load, parse_json, read_text, read_yaml, validate
from um.params import Params

log = logging.getLogger(__name__)

LEDGER = Path("dvc.yaml")
RECORD = Path("dvc.lock")
ASIDE = Path("aside")  # where files go that are in the way; git and DVC do not look there
OF_SHARDS = {"extract_shard", "download_shard"}  # rules whose files do not last
COMMITTED = ("src/", "datasets/")  # dependencies that git keeps
RECORDS = ("missing.tsv", "sources.lock.json")  # what a download has found out: no reason to do it again
LISTED = ("data/{}/videos", "data/{}/features", "models/{}/seed{}/checkpoints")  # folders with an index.json
MOVES = "`um record --aside` moves it to aside/, goes on, and says what is to be made again"
RECORDED = "`um restore --aside` moves it to aside/ and takes the recorded one; `um record` if snakemake made it since"

TAKE_BACK = "`git checkout dvc.lock` takes back the committed one"

Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]


class Stage(Form):
    """A stage of dvc.yaml, of one dataset `${item}` or `${item.dataset}` and one seed `${item.seed}`."""

    hint: ClassVar[str] = "docs/reruns.md explains dvc.yaml; `git diff dvc.yaml` shows what was changed"

    cmd: str = ""
    deps: list[str] = Field([])
    outs: list[str | dict[str, dict[str, Any]]] = Field([])
    do: "Stage | None" = None  # of a `foreach`


class Pipeline(Form):
    """`dvc.yaml`."""

    hint: ClassVar[str] = Stage.hint

    stages: dict[str, Stage]
    vars: list[dict[str, list[str]]] = Field([])


class Bytes(Form):
    """A file or folder of dvc.lock."""

    path: Inside
    md5: Md5 | None = None


class Recorded(Form):
    """A stage of dvc.lock: what it made, and from what."""

    cmd: str
    deps: list[Bytes] = Field([])
    params: dict[str, dict[str, Any]] = Field({})
    outs: list[Bytes] = Field([])


class Lock(Form):
    """`dvc.lock`."""

    stages: dict[str, Recorded] = Field({})

    @property
    def outs(self) -> dict[Path, str]:
        """md5 of what the stages made; of a folder it is that of its list, and ends in `.dir`."""
        return {Path(out.path): out.md5 for stage in self.stages.values() for out in stage.outs if out.md5}


class Made(Form):
    """Snakemake's record of an output."""

    rule: str
    endtime: float
    input_checksums: dict[str, str] | None = None


def stages() -> dict[str, Stage]:
    """The stages of dvc.yaml as they are written, for `${item.dataset}` or `${item}` and `${item.seed}`."""
    return {name: stage.do or stage for name, stage in _written().stages.items()}


def _written() -> Pipeline:
    values = read_yaml(LEDGER, "the project's dvc.yaml", "run from the project's root")
    return validate(Pipeline, values, LEDGER)


def code(stage: str, dataset: str = "") -> str:
    """sha256 over the committed files that dvc.yaml names as dependencies of a stage."""
    digest = hashlib.sha256()
    for dependency in _dependencies(stage, dataset):
        path = Path(dependency)
        if not path.exists():
            raise BadInput(LEDGER, f"{path}, which does not exist", "dependencies that do", f"correct stage {stage}")
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            if "__pycache__" not in file.parts and file.name not in RECORDS and not file.name.startswith("."):
                digest.update(f"{file.as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _dependencies(stage: str, dataset: str) -> list[str]:
    known = stages()
    if stage not in known:
        raise BadInput(LEDGER, f"no stage {stage}", "the stages of the Snakefile", Stage.hint)
    return [text for text in (_of(text, dataset) for text in known[stage].deps) if text.startswith(COMMITTED)]


def _of(pattern: str, dataset: str, seed: int | str = "") -> str:
    """A text of dvc.yaml for one dataset and seed."""
    for name, value in {"${item.dataset}": dataset, "${item.seed}": str(seed), "${item}": dataset}.items():
        pattern = pattern.replace(name, value)
    return pattern


def check_ledger(values: Params) -> None:
    """dvc.yaml cannot loop over the dependencies of one stage: table must name every dataset's results."""
    written, known = _written(), stages()
    lists = {name: names for entry in written.vars for name, names in entry.items()}
    if lost := [f"stage {name}" for name in ("table", "download") if name not in known] or [
        f"list {name}" for name in ("ours", "theirs") if name not in lists
    ]:
        raise BadInput(LEDGER, f"no {lost[0]}", "the stages and lists of the project", Stage.hint)
    for dataset in values.datasets:
        if (dataset in lists["ours"]) + (dataset in lists["theirs"]) != 1:
            found, expected = f"{dataset} not in one of the lists `ours` and `theirs`", "every one of `datasets` in one"
            raise BadInput(LEDGER, found, expected, "add it to `ours` if `dvc push` may pass on its videos")
        if f"results/{dataset}" not in known["table"].deps:
            found = f"stage table without results/{dataset}"
            raise BadInput(LEDGER, found, "the results of all `datasets`", "repeat demo's lines there for it")


def check_leftovers(values: Params) -> None:
    """DVC hashes whole folders: what is there besides what params.yaml asks for could not be built again."""
    for fault in _leftovers(values):
        raise fault.error


class Fault(NamedTuple):
    """Files that must not be recorded as they are, and the error that says so."""

    paths: list[Path]
    error: BadInput


def _leftovers(values: Params) -> Iterator[Fault]:
    built = {f"seed{seed}" for seed in values.seeds}
    for dataset in values.datasets:
        for folder in (Path("models") / dataset, Path("results") / dataset):
            unknown = [path for path in sorted(folder.glob("*")) if path.name not in built and not _is_ignored(path)]
            if not values.of(dataset).train.held_out:
                unknown += sorted(folder.glob("seed*/selected"))
            if unknown:
                names = ", ".join(str(path.relative_to(folder)) for path in unknown)
                found = f"{names}, not of the seeds {', '.join(map(str, values.seeds))} and `held_out`"
                yield Fault(unknown, BadInput(folder, found, "what params.yaml asks for", MOVES))


def restore(aside: bool = False) -> None:
    """After `dvc pull` or `dvc checkout`, tell Snakemake that what DVC calls clean is up to date.

    Files that are not here do not matter as long as nothing asks for them: results can be had without videos.

    Args:
        aside: move files that differ from dvc.lock to aside/, and take the recorded ones from DVC.

    Raises:
        BadInput: a file or its copy in DVC's cache is not what dvc.lock records; DVC or, afterwards, Snakemake has work
            to do; another command is at work.
    """
    with held(Path(), "um restore"):
        values, lock = params.load(), _lock()
        _check_idle()
        outs = _recorded(values, lock)
        if aside:
            _take_recorded(outs, lock, "um restore")
        disk = Disk()
        _check_recorded(disk, outs)
        report = run("dvc", "repro", "--dry", "--allow-missing")
        if changed := re.findall(r"Running stage '(.+?)'", report):
            hint = "`dvc repro; um restore` builds what has changed; `dvc status` tells why"
            raise BadInput("dvc", f"work for {', '.join(changed)}", "a clean ledger", hint)
        run("snakemake", "--touch", "--forceall")
        if planned := plan():
            hint = "`snakemake; um record` builds it, `dvc pull; um restore` takes it from a remote"
            raise BadInput("snakemake", f"work for {', '.join(planned)}", "all files of the ledger", hint)
        kept = _kept_by_git()
        if lost := [out for out in outs if out.exists() and out not in kept and not disk.object(outs[out]).is_file()]:
            raise BadInput(lost[0], "no copy in DVC's cache", "one, as after `dvc pull`", "`um record` makes it")
        absent = [str(out) for out in _outs(values) if not out.exists()]
        log.info("restored: Snakemake and DVC agree%s", f"; not here: {', '.join(absent)}" if absent else "")


def record(aside: bool = False, rebuilt: bool = False) -> None:
    """After `snakemake`, tell DVC that what Snakemake calls up to date is the record.

    Args:
        aside: move files that could not be recorded to aside/.
        rebuilt: accept other bytes than the last record's from the same inputs, as another processor makes them.

    Raises:
        BadInput: Snakemake has work to do or knows nothing of the files; files differ from their index or the last
            record, or were changed after they were made; there are files that nothing makes, or not all; DVC is not
            clean afterwards; another command is at work.
    """
    with held(Path(), "um record"):
        values = params.load()
        check_ledger(values)
        _check_idle()
        lock = _lock(aside) if RECORD.exists() else Lock()
        outs = _recorded(values, lock)
        same = {} if rebuilt else _of_unchanged(lock, outs)
        while aside and same:
            _take_recorded(same, lock, "um record")
            if same == (same := _of_unchanged(lock, outs)):  # what is back may be what others were made from
                break
        _handle(_faults_of_files(values, outs, same), aside)
        if planned := plan():
            hint = "`snakemake; um record` builds it; after `dvc pull` or `dvc checkout` it is `um restore`"
            raise BadInput("snakemake", f"work for {', '.join(planned)}", "results that are up to date", hint)
        _handle(_faults_of_jobs(values), aside)
        _check_complete(values)
        _handle(_other_table(values), aside)
        _check_complete(values)
        before = Disk()
        made = {out: before.md5(out) for out in _outs(values)}
        run("dvc", "commit", "--force", "--no-relink")  # linked again, files would be gone for a moment
        outs = _recorded(values, _lock())
        if wrong := [out for out, md5 in made.items() if outs.get(out, md5) != md5]:
            raise BadInput(wrong[0], "other bytes than DVC has recorded", "the same", MOVES)
        _check_cache(Disk(), outs, "um record")
        if unclean := _status():
            hint = "`um record` records what has changed meanwhile; `dvc status` tells what"
            raise BadInput("dvc", f"changes in {', '.join(unclean)}", "a clean ledger", hint)
        log.info("recorded: commit dvc.lock, datasets/ and results/benchmark.*, then `dvc push`")


def plan() -> list[str]:
    """The rules that Snakemake would run.

    Raises:
        BadInput: there are files of whose making Snakemake has no record, so that it cannot tell.
    """
    report = run("snakemake", "--dry-run", "--quiet", "rules")
    named = re.search(r"Rules with missing metadata: (.+)", report)
    if unknown := sorted(set(named[1].split() if named else ()) - OF_SHARDS):
        rules = " ".join(unknown)
        hint = f"`um restore` if they come from `dvc pull`, else `snakemake --forcerun {rules}; um record`"
        raise BadInput("snakemake", f"no record of how files of {rules} were made", "its own record", hint)
    if "Nothing to be done" in report:
        return []
    return sorted(set(re.findall(r"^(\w+) +\d+$", report, re.MULTILINE)) - {"total", "all"})


def _check_idle() -> None:
    """Snakemake locks its folder while it works, and leaves the lock when it is killed."""
    if any(Path(".snakemake/locks").glob("*")):
        hint = "wait until it has ended; `snakemake --unlock` if it was killed"
        raise BadInput("snakemake", "its lock on this folder", "no workflow at work", hint)


def _handle(faults: Iterator[Fault], aside: bool) -> None:
    """Move the files that cannot be recorded aside, or raise the first fault; those not there have to be made."""
    for paths, error in faults:
        if not aside or not any(map(_is_there, paths)):
            raise error
        _move_aside(paths)


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _move_aside(paths: Iterable[Path]) -> None:
    """Move files and folders to aside/, where nothing is overwritten."""
    for path in filter(_is_there, paths):
        below = path.relative_to(path.anchor)
        target = next(
            place for number in count() if not _is_there(place := ASIDE / (str(number) * bool(number)) / below)
        )
        make_folder(target.parent)
        shutil.move(path, target)
        log.info("moved %s to %s", path, target)


def _outs(values: Params) -> list[Path]:
    """What the stages make, for all datasets and seeds."""
    outs: dict[Path, None] = {}
    for stage in stages().values():
        for out in stage.outs:
            pattern = out if isinstance(out, str) else next(iter(out))
            for dataset in values.datasets:
                for seed in values.seeds:
                    outs[Path(_of(pattern, dataset, seed))] = None
    return list(outs)


def _kept_by_git() -> set[Path]:
    """What the stages make and DVC does not keep."""
    outs = [out for stage in stages().values() for out in stage.outs if not isinstance(out, str)]
    return {Path(name) for out in outs for name, options in out.items() if options.get("cache") is False}


def _status() -> list[str]:
    """The stages that DVC calls changed."""
    report = run("dvc", "status")
    return [] if "up to date" in report else re.findall(r"^(\S+):$", report, re.MULTILINE) or [report]


# --- what lies there, against dvc.lock


def _lock(aside: bool = False) -> Lock:
    """dvc.lock; a damaged one is moved `aside`."""
    hint = "`snakemake; um record` makes it"
    try:
        return validate(Lock, read_yaml(RECORD, "DVC's record", hint), RECORD)
    except BadInput as error:
        if not aside:
            if RECORD.exists():
                kept = subprocess.run(["git", "ls-files", str(RECORD)], capture_output=True).stdout
                hint = TAKE_BACK if kept else "`um record --aside` moves it to aside/ and begins a new one"
            raise BadInput(error.where, error.found, error.expected, hint) from None
        _move_aside([RECORD])
        return Lock()


def _recorded(values: Params, lock: Lock) -> dict[Path, str]:
    """What the stages make, and its md5 in dvc.lock."""
    known = lock.outs
    return {out: known[out] for out in _outs(values) if out in known}


@cache
def _patterns() -> list[str]:
    """Names that .dvcignore leaves out."""
    path = Path(".dvcignore")
    lines = [line.strip().rstrip("/") for line in read_text(path).splitlines()] if path.exists() else []
    return [line for line in lines if line and "/" not in line and not line.startswith(("#", "!"))]


def _is_ignored(path: Path) -> bool:
    return any(fnmatch.fnmatch(part, pattern) for part in path.parts for pattern in _patterns())


@cache
def _cache(project: Path) -> Path:
    """The folder of DVC's cache; asking DVC takes a second."""
    cache = Path(run("dvc", "cache", "dir").strip().splitlines()[-1])
    return cache.relative_to(project) if cache.is_relative_to(project) else cache


class Disk:
    """The files as they are, each read once: DVC would believe in those whose size and time are as they were."""

    def __init__(self) -> None:
        self.cache = _cache(Path.cwd())
        self._known: dict[Path, str] = {}

    def file(self, path: Path) -> str:
        """md5 of a file's bytes."""
        if path not in self._known:
            with path.open("rb") as file:
                self._known[path] = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return self._known[path]

    def files(self, out: Path) -> dict[str, str]:
        """md5 of every file of a folder that DVC would record, by its path in there; of a file by the empty path."""
        if not out.is_dir():
            return {"": self.file(out)} if out.exists() else {}
        below = [(path, path.relative_to(out)) for path in sorted(out.rglob("*")) if path.is_file()]
        return {name.as_posix(): self.file(path) for path, name in below if not _is_ignored(name)}

    def md5(self, out: Path) -> str:
        """What DVC would record: of a folder the md5 of its list, with `.dir`; of what is not there nothing."""
        files = self.files(out)
        return _md5(_listing(files)) + ".dir" if out.is_dir() else files.get("", "")

    def listed(self, out: Path, md5: str) -> dict[str, str] | None:
        """The recorded files of a folder, from DVC's cache or, if it is unchanged, from the folder; None: not known."""
        if not md5.endswith(".dir"):
            return {"": md5}
        path = self.object(md5)
        if path.is_file() and self.file(path) == md5.removesuffix(".dir"):
            return {entry["relpath"]: entry["md5"] for entry in parse_json(path.read_bytes())}
        return self.files(out) if out.exists() and self.md5(out) == md5 else None

    def object(self, md5: str) -> Path:
        """Where DVC's cache keeps something."""
        return self.cache / "files" / "md5" / md5[:2] / md5[2:]

    def differences(self, out: Path, md5: str) -> dict[Path, str]:
        """What differs from the record, and how."""
        if not out.exists() or self.md5(out) == md5:
            return {}
        there, listed = self.files(out), self.listed(out, md5)
        if listed is None:
            return {out: "other files"}
        how = {
            name: "no such file" if name not in there else "a file that is not recorded" if name not in listed else ""
            for name in sorted(there.keys() | listed.keys())
            if there.get(name) != listed.get(name)
        }
        return {out / name if name else out: text or "other bytes" for name, text in how.items()}

    def damaged(self, out: Path, md5: str) -> dict[Path, Path | bytes | None]:
        """Objects of the cache that are not what their name says, and where their true bytes are, if anywhere."""
        listed, there = self.listed(out, md5) or {}, self.files(out)
        right: dict[str, Path | bytes | None] = {
            known: out / name if there.get(name) == known else None for name, known in listed.items()
        }
        if md5.endswith(".dir"):
            right[md5] = _listing(listed) if listed else None
        objects = {self.object(known): (known.removesuffix(".dir"), source) for known, source in right.items()}
        return {
            path: source for path, (known, source) in objects.items() if path.is_file() and self.file(path) != known
        }


def _listing(files: dict[str, str]) -> bytes:
    """A folder as DVC's cache keeps it."""
    return json.dumps([{"md5": files[name], "relpath": name} for name in sorted(files)]).encode()


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _check_recorded(disk: Disk, outs: dict[Path, str]) -> None:
    for fault in _differing(disk, outs, RECORDED):
        raise fault.error
    _check_cache(disk, outs, "um restore")


def _differing(disk: Disk, outs: dict[Path, str], hint: str) -> Iterator[Fault]:
    """Files that are not what dvc.lock records."""
    wrong = {path: how for out, md5 in outs.items() for path, how in disk.differences(out, md5).items()}
    if wrong:
        (first, how), more = next(iter(wrong.items())), len(wrong) - 1
        found = how + (f", and {some([str(path) for path in list(wrong)[1:]], 'more', 'more')}" if more else "")
        yield Fault(list(wrong), BadInput(first, found, f"what {RECORD} records", hint))


def _check_cache(disk: Disk, outs: dict[Path, str], verb: str) -> None:
    """DVC believes in the objects of its cache; `dvc push` would pass them on."""
    for out, md5 in outs.items():
        for path in disk.damaged(out, md5):
            hint = f"`{verb} --aside` moves it to aside/ and puts a true copy there, if there is one"
            raise BadInput(path, f"other bytes than its name says, of {out}", "sound copies in DVC's cache", hint)


def _take_recorded(outs: dict[Path, str], lock: Lock, verb: str) -> None:
    """Move what differs from dvc.lock, in the workspace and in DVC's cache, aside; take the recorded files from DVC.

    Raises:
        BadInput: there is no true copy.
    """
    tables, wrong = _kept_by_git(), dict[Path, dict[Path, str]]()
    for command in ("checkout", "pull", ""):
        disk = Disk()
        gone = {out: {out: "no such file"} for out in wrong if not out.exists()}
        wrong = gone | {out: found for out, md5 in outs.items() if (found := disk.differences(out, md5))}
        damaged = {path: true for out, md5 in outs.items() for path, true in disk.damaged(out, md5).items()}
        _move_aside([*(path for found in wrong.values() for path in found), *damaged])
        for path, true in damaged.items():
            if true is not None:
                with atomic(path) as temporary:
                    temporary.write_bytes(true) if isinstance(true, bytes) else shutil.copyfile(true, temporary)
                    temporary.chmod(0o444)
        if not wrong:
            return
        if git := [str(out) for out in wrong if out in tables]:
            subprocess.run(["git", "checkout", "--", *git], capture_output=True)
        dvc = [str(out) for out in wrong if out not in tables]
        if dvc and command:  # if it fails, the next round finds what is missing
            subprocess.run([_tool("dvc"), command, *dvc], capture_output=True)
    out, found = next(iter(wrong.items()))
    stage = next(name for name, stage in lock.stages.items() if any(Path(made.path) == out for made in stage.outs))
    hint = f"`dvc repro --force --single-item {shlex.quote(stage)}; {verb}` builds it again"
    raise BadInput(next(iter(found)), "no true copy in DVC's cache and remote", f"what {RECORD} records", hint)


def _of_unchanged(lock: Lock, outs: dict[Path, str]) -> dict[Path, str]:
    """The recorded outputs of stages whose inputs, parameters and command are still those of the record."""
    disk, pipeline = Disk(), stages()
    chosen = read_yaml(Path("params.yaml"))
    same: dict[Path, str] = {}
    for name, stage in lock.stages.items():
        if name.partition("@")[0] not in pipeline:
            continue
        there = all(dep.md5 is None or disk.md5(Path(dep.path)) == dep.md5 for dep in stage.deps)
        asked = all(_value(chosen, key) == value for values in stage.params.values() for key, value in values.items())
        if there and asked:
            same |= {Path(out.path): outs[Path(out.path)] for out in stage.outs if Path(out.path) in outs}
    return same


def _value(values: Any, key: str) -> Any:
    """`a.b.c` of nested mappings, whose names may hold dots."""
    if not isinstance(values, dict):
        return None
    if key in values:
        return values[key]
    parts = key.split(".")
    for number in range(len(parts) - 1, 0, -1):
        if (head := ".".join(parts[:number])) in values:
            return _value(values[head], ".".join(parts[number:]))
    return None


# --- what lies there, against what Snakemake knows


def _faults_of_files(values: Params, outs: dict[Path, str], same: dict[Path, str]) -> Iterator[Fault]:
    """Files that should not be as they are, whatever Snakemake calls up to date."""
    yield from _leftovers(values)
    of_all = product(LISTED, values.datasets, values.seeds)
    listed = {Path(pattern.format(dataset, seed)) for pattern, dataset, seed in of_all}
    for folder in sorted(listed):
        yield from _unlisted(folder)
    disk, made = Disk(), _made(values)
    for path, record in sorted(made.items()):
        if path.stat().st_mtime != record.endtime and not _is_recorded(disk, path, outs):
            yield Fault([path], BadInput(path, "changes after it was made", "what its rule wrote", MOVES))
    for out in _outs(values) if made else ():  # without its records Snakemake itself says so
        if out.parts[0] in ("models", "results"):
            there = {path for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file()}
            there = {path for path in there if path.parent not in listed}
            if stray := sorted(path for path in there - set(made) if not _is_ignored(path)):
                yield Fault(stray, BadInput(stray[0], "a file that no rule makes", "models and results only", MOVES))
    yield from _differing(disk, same, f"{MOVES}; `um record --rebuilt` if snakemake made it on another machine")


def _is_recorded(disk: Disk, path: Path, outs: dict[Path, str]) -> bool:
    """Whether a file is that of dvc.lock, so that DVC has given it its time."""
    out = next(out for out in [path, *path.parents] if out in outs or not out.name)
    listed = disk.listed(out, outs[out]) if out in outs else None
    return listed is not None and listed.get(path.relative_to(out).as_posix() if path != out else "") == disk.file(path)


def _unlisted(folder: Path) -> Iterator[Fault]:
    """Snakemake watches a folder's index, not the files that it lists."""
    if not (folder / "index.json").is_file():
        return  # which Snakemake knows
    index = load(Index, folder / "index.json")
    listed = {folder / name: entry.sha256 for name, entry in index.files.items()}
    if index.spec:
        listed[folder / "spec.json"] = index.spec
    there = {path for path in folder.rglob("*") if path.is_file() and not _is_ignored(path.relative_to(folder))}
    there -= {folder / name for name in ("index.json", "journal.jsonl", "missing.tsv")}
    wrong = [path for path in sorted(there & set(listed)) if sha256(path) != listed[path]]
    if stray := sorted({*wrong, *(there - set(listed))}):
        yield Fault(stray, _not_as_listed(folder, stray, MOVES))
    if lost := sorted(path for path in listed if not path.is_file()):
        again = f"`snakemake --force -- {folder / 'index.json'}; snakemake; um record` makes them"
        yield Fault([], _not_as_listed(folder, lost, again))


def _not_as_listed(folder: Path, paths: list[Path], hint: str) -> BadInput:
    names = ", ".join(path.relative_to(folder).as_posix() for path in paths[:3]) + (", …" if paths[3:] else "")
    return BadInput(folder, f"{names} not as listed", "the files of index.json", hint)


def _faults_of_jobs(values: Params) -> Iterator[Fault]:
    """Files that no job left as they are, though Snakemake calls everything up to date."""
    made = _made(values)
    sums: dict[Path, str] = {}
    for path, record in sorted(made.items()):
        for name, checksum in (record.input_checksums or {}).items():
            source = Path(name)
            if source in made and source.is_file():
                sums[source] = sums.get(source) or sha256(source)
                if sums[source] == checksum.removeprefix("sha256:"):
                    continue
                if path in _asked():
                    found = f"changes after {path} was made from it"
                    yield Fault([source], BadInput(source, found, "what its rule wrote", MOVES))
                else:  # of an earlier version of the rules
                    found = "a file that no rule makes any more"
                    yield Fault([path], BadInput(path, found, "models and results only", MOVES))


def _other_table(values: Params) -> Iterator[Fault]:
    """No job reads the table, but it is soon made again."""
    from um.report import benchmark

    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            benchmark.write(Path("results"), values.datasets, values, Path(folder))
        for file in sorted(Path(folder).iterdir()):
            path = Path("results") / file.name
            if path.is_file() and path.read_bytes() != file.read_bytes():
                yield Fault([path], BadInput(path, "changes after it was made", "what `um table` writes", MOVES))


def _check_complete(values: Params) -> None:
    """DVC records whole folders; of files that no other is made from, Snakemake does not ask whether they are there."""
    absent = {path for path in _records(values) if not path.exists()}
    if asked := sorted(absent & _asked() if absent else ()):  # there are records of files that no rule makes any more
        hint = f"`snakemake -- {shlex.join(map(str, asked[:3]))}; snakemake; um record` makes it"
        raise BadInput(asked[0], "no such file", "all files that the rules make", hint)
    if gone := [out for out in _outs(values) if not out.exists()]:
        raise BadInput(gone[0], "no such file", "all that dvc.yaml lists", f"`dvc pull {gone[0]}; um record` brings it")


def _asked() -> set[Path]:
    """The outputs of all jobs that the rules have."""
    table = [line.split("\t") for line in run("snakemake", "--summary").splitlines()]
    return {Path(row[0]) for row in table if row[1:]}


def _made(values: Params) -> dict[Path, Made]:
    """Snakemake's records of those files that are there and that a stage makes.

    Snakemake itself takes a newer output for a good one, whoever wrote it.
    """
    made = {}
    for path, file in _records(values).items():
        with contextlib.suppress(BadInput):  # of a record that it cannot read Snakemake says so itself
            if path.is_file():
                made[path] = load(Made, file)
    return made


def _records(values: Params) -> dict[Path, Path]:
    """Snakemake's records of what the stages make: by output, the file that holds it."""
    folder, records, outs = Path(".snakemake/metadata"), {}, set(_outs(values))
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = "".join(part.removeprefix("@") for part in file.relative_to(folder).parts)  # long names are cut
        with contextlib.suppress(ValueError):  # a file that Snakemake did not write
            path = Path(base64.b64decode(name).decode())
            if outs & {path, *path.parents}:
                records[path] = file
    return records


def run(tool: str, *arguments: str) -> str:
    """What a tool of this Python's environment says; it is shown when the tool fails."""
    return output([_tool(tool), *arguments])


def _tool(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise BadInput(path, "no such file", f"{name} beside {sys.executable}", "`make .venv/.ready` installs it")
    return str(path)


def output(command: list[str]) -> str:
    """What a command prints, both streams as one.

    Raises:
        BadInput: it fails; what it printed is on the error stream then.
    """
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        print(result.stdout, file=sys.stderr)
        shown = " ".join([Path(command[0]).name, *command[1:]])
        raise BadInput(shown, f"exit code {result.returncode}", "0", "its output is above")
    return result.stdout
