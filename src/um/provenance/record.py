"""The handshake between Snakemake, which does the work, and DVC, which keeps the ledger."""

import contextlib
import logging
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import psutil

from um import params
from um.errors import BadInput
from um.files import atomic, flock, held, make_folder
from um.params import Params
from um.provenance import faults, jobs, pipeline, tools
from um.provenance.disk import Disk
from um.provenance.faults import MOVES, Fault
from um.provenance.pipeline import RECORD, Lock

log = logging.getLogger(__name__)

ASIDE = Path("aside")  # where files go that are in the way; git and DVC ignore it
DVC_TMP = Path(".dvc/tmp")
RECORDED = "`um restore --aside` moves it to aside/ and takes the recorded one; `um record` if snakemake made it since"


def restore(aside: bool = False) -> None:
    """After `dvc pull` or `dvc checkout`, mark files that match dvc.lock as up to date for Snakemake.

    Absent files are allowed if no job needs them: results need no videos.

    Args:
        aside: move files that differ from dvc.lock to aside/, and take the recorded ones from DVC.

    Raises:
        BadInput: a file or its copy in DVC's cache is not what dvc.lock records; DVC or, afterwards, Snakemake has work
            to do; another command is at work.
    """
    tools.check_checkout("um restore")
    with held(Path(), "um restore"):
        values, lock = params.load(), _lock()
        jobs.check_idle()
        _forget_killed()
        outs = pipeline.recorded(values, lock)
        if aside:
            _take_recorded(outs, lock, "um restore")
        disk = Disk()
        _check_recorded(disk, outs)
        report = tools.run("dvc", "repro", "--dry", "--allow-missing")
        if changed := re.findall(r"Running stage '(.+?)'", report):
            hint = "`dvc repro; um restore` builds what has changed; `dvc status` tells why"
            raise BadInput("dvc", f"work for {', '.join(changed)}", "a clean ledger", hint)
        tools.run("snakemake", "--touch", "--forceall")
        if planned := jobs.plan():  # of files that are not here
            told = "`um build` builds it, `dvc pull; um restore` takes it from a remote"
            log.warning("snakemake has work left for %s: %s", ", ".join(planned), told)
        kept = pipeline.uncached(values)
        if lost := [out for out in outs if out.exists() and out not in kept and not disk.object(outs[out]).is_file()]:
            raise BadInput(lost[0], "no copy in DVC's cache", "one, as after `dvc pull`", "`um record` makes it")
        absent = [str(out) for out in pipeline.outs(values) if not out.exists()]
        log.info("restored: Snakemake and DVC agree%s", f"; not here: {', '.join(absent)}" if absent else "")


def record(aside: bool = False, rebuilt: bool = False) -> None:
    """After `snakemake`, record the files it calls up to date in dvc.lock.

    Args:
        aside: move files that could not be recorded to aside/.
        rebuilt: accept other bytes than the last record's from the same inputs, as another processor makes them.

    Raises:
        BadInput: Snakemake has work to do or no record of the files; files differ from their index or the last record,
            or were changed after they were made; a file that no rule makes; a missing output; DVC is not clean
            afterwards; another command is running.
    """
    tools.check_checkout("um record")
    with held(Path(), "um record"):
        values = params.load()
        pipeline.check_ledger(values)
        jobs.check_idle()
        _forget_killed()
        lock = _lock(aside) if RECORD.exists() else Lock()
        jobs.check_known(values, lock)
        outs = pipeline.recorded(values, lock)
        same = {} if rebuilt else faults.of_unchanged(lock, outs)
        while aside and same:
            _take_recorded(same, lock, "um record")
            if same == (same := faults.of_unchanged(lock, outs)):  # restored files may be inputs of others
                break
        _handle(faults.of_files(values, outs, same), aside)
        if planned := jobs.plan():
            hint = "`snakemake; um record` builds it; after `dvc pull` or `dvc checkout` it is `um restore`"
            raise BadInput("snakemake", f"work for {', '.join(planned)}", "results that are up to date", hint)
        _handle(faults.of_jobs(values), aside)
        _check_complete(values)
        _handle(faults.other_table(values), aside)
        _check_complete(values)
        before = Disk()
        made = {out: before.md5(out) for out in pipeline.outs(values)}
        tools.run("dvc", "commit", "--force", "--no-relink")  # linked again, files would be gone for a moment
        outs = pipeline.recorded(values, _lock())
        if wrong := [out for out, md5 in made.items() if outs.get(out, md5) != md5]:
            raise BadInput(wrong[0], "bytes that differ from those DVC has recorded", "the same", MOVES)
        _check_cache(Disk(), outs, "um record")
        if unclean := _status():
            hint = "`um record` records what has changed meanwhile; `dvc status` tells what"
            raise BadInput("dvc", f"changes in {', '.join(unclean)}", "a clean ledger", hint)
        log.info("recorded: commit dvc.lock, datasets/ and results/benchmark.*, then `dvc push`")


def _forget_killed() -> None:
    """Clear DVC's table of files in use if no running process is listed.

    DVC rewrites the table in place, so a kill can tear it; later, another process may have the killed one's number.
    """
    table = DVC_TMP / "rwlock"
    if not table.exists():
        return
    with table.with_name("rwlock.lock").open("ab") as file:  # DVC's own, locked while it edits the table
        users = re.findall(r'"pid": (\d+)', table.read_text(errors="replace"))
        if flock(file, shared=False) and not any(_lives(int(user), table.stat().st_mtime) for user in users):
            table.write_text("{}")


def _lives(process: int, since: float) -> bool:
    """Whether a process has been running since a time."""
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(process).create_time() <= since)
    return False


def _lock(aside: bool = False) -> Lock:
    """dvc.lock; a damaged one is moved `aside`."""
    try:
        return pipeline.lock()
    except BadInput:
        if not aside:
            raise
        _move_aside([RECORD])
        return Lock()


def _handle(found: Iterator[Fault], aside: bool) -> None:
    """Move the files that cannot be recorded aside, or raise the first fault."""
    for paths, error in found:
        if not aside or not any(map(os.path.lexists, paths)):
            raise error
        _move_aside(paths)


def _move_aside(paths: Iterable[Path]) -> None:
    """Move files and folders to aside/ without overwriting any."""
    for path in filter(os.path.lexists, paths):
        below = path.relative_to(path.anchor)
        target = next(
            place for number in count() if not os.path.lexists(place := ASIDE / (str(number) * bool(number)) / below)
        )
        make_folder(target.parent)
        shutil.move(path, target)
        log.info("moved %s to %s", path, target)


def _check_recorded(disk: Disk, outs: dict[Path, str]) -> None:
    for fault in faults.differing(disk, outs, RECORDED):
        raise fault.error
    _check_cache(disk, outs, "um restore")


def _check_cache(disk: Disk, outs: dict[Path, str], verb: str) -> None:
    """DVC does not check the objects of its cache; `dvc push` would upload damaged ones."""
    for out, md5 in outs.items():
        for path in disk.damaged(out, md5):
            hint = f"`{verb} --aside` moves it to aside/ and restores a correct copy, if there is one"
            raise BadInput(path, f"content that does not match its name, of {out}", "sound copies in DVC's cache", hint)


def _take_recorded(outs: dict[Path, str], lock: Lock, verb: str) -> None:
    """Move files that differ from dvc.lock aside, in the workspace and in DVC's cache; restore the recorded ones.

    Raises:
        BadInput: there is no correct copy.
    """
    wrong: dict[Path, dict[Path, str]] = {}
    tables = {out for out in outs if out.parts[0] == "results" and out.suffix}
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
            subprocess.run([tools.path_of("dvc"), command, *dvc], capture_output=True)
    out, found = next(iter(wrong.items()))
    stage = next(name for name, stage in lock.stages.items() if any(Path(made.path) == out for made in stage.outs))
    hint = f"`dvc repro --force --single-item {shlex.quote(stage)}; {verb}` builds it again"
    raise BadInput(next(iter(found)), "no correct copy in DVC's cache and remote", f"what {RECORD} records", hint)


def _check_complete(values: Params) -> None:
    """Check that all outputs exist: Snakemake does not ask for files that no other is made from."""
    absent = {path for path in jobs.records(values) if not path.exists()}
    if asked := sorted(absent & jobs.asked() if absent else ()):  # Snakemake keeps records of files of past rules
        hint = f"`snakemake -- {shlex.join(map(str, asked[:3]))}; snakemake; um record` makes it"
        raise BadInput(asked[0], "no such file", "all files that the rules make", hint)
    if gone := [out for out in pipeline.outs(values) if not out.exists()]:
        raise BadInput(gone[0], "no such file", "all that dvc.yaml lists", f"`dvc pull {gone[0]}; um record` brings it")


def _status() -> list[str]:
    """The stages that DVC calls changed."""
    report = tools.run("dvc", "status")
    return [] if "up to date" in report else re.findall(r"^(\S+):$", report, re.MULTILINE) or [report]
