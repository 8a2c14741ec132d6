"""The jobs that Snakemake would run, and its records of the files it has made."""

import base64
import contextlib
import re
from pathlib import Path

from um.errors import BadInput
from um.forms import Form, load
from um.params import Params
from um.provenance import pipeline, tools

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
    return sorted(set(re.findall(r"^(\w+) +\d+$", report, re.MULTILINE)) - {"total", "all"})


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


def records(values: Params) -> dict[Path, Path]:
    """Output of a stage → the file of Snakemake's record about it."""
    folder, records, outs = Path(".snakemake/metadata"), {}, set(pipeline.outs(values))
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = "".join(part.removeprefix("@") for part in file.relative_to(folder).parts)  # long names are cut
        with contextlib.suppress(ValueError):  # a file that Snakemake did not write
            path = Path(base64.b64decode(name).decode())
            if outs & {path, *path.parents}:
                records[path] = file
    return records
