"""The jobs that Snakemake would run, and its records of the files it has made."""

import base64
import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from snakemake.persistence.file import FilePersistence  # type: ignore[import-untyped]

from um.errors import BadInput
from um.forms import Form, load
from um.params import Params
from um.provenance import pipeline, tools

MARKS = ("index.json", "seed*/last.safetensors", "seed*/metrics.json")  # outputs that a stage ends with
FORCED = {"-F", "--forceall", "-t", "--touch", "--unlock", "--mode"}  # of snakemake; the last is that of a job
OF_SHARDS = {"extract_shard", "download_shard"}  # rules whose files do not last


class Made(Form):
    """Snakemake's record of an output."""

    rule: str
    endtime: float
    input_checksums: dict[str, str] | None = None


def plan() -> list[str]:
    """The rules that Snakemake would run.

    Raises:
        BadInput: Snakemake has no record of how some files were made, so it cannot tell.
    """
    report = tools.run("snakemake", "--dry-run", "--quiet", "rules")
    named = re.search(r"Rules with missing metadata: (.+)", report)
    if unknown := sorted(set(named[1].split() if named else ()) - OF_SHARDS):
        rules = " ".join(unknown)
        hint = f"`um restore` if they come from `dvc pull`, else `snakemake --forcerun {rules}; um record`"
        raise BadInput("snakemake", f"no record of how files of {rules} were made", "its own record", hint)
    if "Nothing to be done" in report:
        return []
    return sorted(rules_of(report))


def rules_of(report: str) -> set[str]:
    """The rules that a dry run lists, without the one that only asks for files."""
    return set(re.findall(r"^(\w+) +\d+$", report, re.MULTILINE)) - {"total", "all"}


def check_idle() -> None:
    """Snakemake locks its folder while it runs; a killed one leaves its lock behind."""
    if any(Path(".snakemake/locks").glob("*")):
        hint = "wait until it has ended; `snakemake --unlock` if it was killed"
        raise BadInput("snakemake", "its lock on this folder", "no workflow at work", hint)


def asked() -> set[Path]:
    """The outputs of all jobs."""
    table = [line.split("\t") for line in tools.run("snakemake", "--summary").splitlines()]
    return {Path(row[0]) for row in table if row[1:]}


def made(values: Params) -> dict[Path, Made]:
    """Snakemake's records of the existing outputs of stages.

    Snakemake itself accepts any newer output, whoever wrote it.
    """
    made = {}
    for path, file in records(values).items():
        with contextlib.suppress(BadInput):  # Snakemake itself reports an unreadable record
            if path.is_file():
                made[path] = load(Made, file)
    return made


def is_planning() -> bool:
    """Whether a person calls Snakemake in a way that needs records: no job, and no option such as --touch."""
    return not FORCED & {word.partition("=")[0] for word in sys.argv}


def check_known(values: Params, lock: pipeline.Lock) -> None:
    """Refuse to plan with recorded files that Snakemake does not know: it would rebuild an arbitrary part of them.

    Raises:
        BadInput: files as `dvc pull` leaves them.
    """
    known = FilePersistence(nolock=True, path=Path(".snakemake").absolute())
    kept = pipeline.uncached(values)
    for out in (out for out in pipeline.recorded(values, lock) if out not in kept and out.exists()):
        files = [out] if out.is_file() else [path for pattern in MARKS for path in out.glob(pattern)]
        unknown = [path for path in files if known._read_record(str(path)) is None]
        unknown = [path for path in unknown if not known._filter_incomplete_keys([str(path)])]
        if unknown:
            found, hint = "a file that Snakemake has no record of", "`um restore` if it comes from `dvc pull`"
            raise BadInput(unknown[0], found, "files of its own jobs", f"{hint}, else `snakemake --forceall`")


def distrust(paths: Iterable[Path]) -> None:
    """Make Snakemake rebuild files, by marking them as left by a killed job."""
    known = FilePersistence(nolock=True, path=Path(".snakemake").absolute())
    for path in paths:
        known._mark_incomplete(str(path), None)


def strange(paths: Iterable[str]) -> Iterator[Path]:
    """Those files that Snakemake has not made itself: a stage of DVC starts from an unknown state.

    Without a record of a file, or after `dvc checkout`, Snakemake would call it up to date.
    """
    known = FilePersistence(nolock=True, path=Path(".snakemake").absolute())
    for path in (Path(path) for path in paths if Path(path).exists()):
        record = known._read_record(str(path))
        if record is None or record.endtime != path.stat().st_mtime:
            yield path


def records(values: Params, kind: str = "metadata") -> dict[Path, Path]:
    """Output of a stage → the file of Snakemake's record about it, or (`incomplete`) its mark that a job has begun."""
    folder, records, outs = Path(".snakemake", kind), {}, set(pipeline.outs(values))
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = "".join(part.removeprefix("@") for part in file.relative_to(folder).parts)  # long names are cut
        with contextlib.suppress(ValueError):  # a file that Snakemake did not write
            path = Path(base64.urlsafe_b64decode(name).decode())
            if outs & {path, *path.parents}:
                records[path] = file
    return records
