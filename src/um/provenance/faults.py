"""Checks for files that must not be recorded."""

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from um.errors import BadInput, some
from um.files import sha256
from um.forms import Index, load, read_yaml
from um.params import Params, run_name, value_at
from um.provenance import jobs, pipeline
from um.provenance.disk import Disk, is_ignored
from um.provenance.pipeline import RECORD, Lock

OF_DATASET, OF_RUN = ("data/{}/videos", "data/{}/features"), "models/{}/seed{}/checkpoints"  # have an index.json
MOVES = "`um record --aside` moves it to aside/, continues, and says what must be rebuilt"


class Fault(NamedTuple):
    """Files that must not be recorded, and the error that says why."""

    paths: list[Path]
    error: BadInput


def check_leftovers(values: Params) -> None:
    """Refuse files that params.yaml does not ask for: DVC records whole folders, and could not rebuild them."""
    for fault in _leftovers(values):
        raise fault.error


def _leftovers(values: Params) -> Iterator[Fault]:
    built = {f"seed{seed}" for seed in values.seeds}
    for dataset, variant in product(values.datasets, values.compared()):
        run = run_name(dataset, variant)
        for folder in (Path("models") / run, Path("results") / run):
            unknown = [path for path in sorted(folder.glob("*")) if path.name not in built and not is_ignored(path)]
            if not values.of(dataset, variant).train.held_out:
                unknown += sorted(folder.glob("seed*/selected"))
            if unknown:
                names = ", ".join(str(path.relative_to(folder)) for path in unknown)
                found = f"{names}, not of the seeds {', '.join(map(str, values.seeds))} and `held_out`"
                yield Fault(unknown, BadInput(folder, found, "what params.yaml asks for", MOVES))


def differing(disk: Disk, outs: dict[Path, str], hint: str) -> Iterator[Fault]:
    """Files that differ from dvc.lock."""
    wrong = {path: how for out, md5 in outs.items() for path, how in disk.differences(out, md5).items()}
    if wrong:
        (first, how), more = next(iter(wrong.items())), len(wrong) - 1
        found = how + (f", and {some([str(path) for path in list(wrong)[1:]], 'more', 'more')}" if more else "")
        yield Fault(list(wrong), BadInput(first, found, f"what {RECORD} records", hint))


def of_unchanged(lock: Lock, outs: dict[Path, str]) -> dict[Path, str]:
    """The recorded outputs of stages whose inputs and parameters have not changed since."""
    disk, known = Disk(), pipeline.stages()
    chosen = read_yaml(Path("params.yaml"))
    same: dict[Path, str] = {}
    for name, stage in lock.stages.items():
        if name.partition("@")[0] not in known:
            continue
        there = all(dep.md5 is None or disk.md5(Path(dep.path)) == dep.md5 for dep in stage.deps)
        asked = all(value_at(chosen, key) == value for values in stage.params.values() for key, value in values.items())
        if there and asked:
            same |= {Path(out.path): outs[Path(out.path)] for out in stage.outs if Path(out.path) in outs}
    return same


def of_files(values: Params, outs: dict[Path, str], same: dict[Path, str]) -> Iterator[Fault]:
    """Files that no run of the workflow leaves like this, even if Snakemake calls them up to date."""
    yield from _leftovers(values)
    listed = indexed(values)
    for folder in listed:
        yield from _unlisted(folder)
    disk, made = Disk(), jobs.made(values)
    for path, record in sorted(made.items()):
        if path.stat().st_mtime != record.endtime and not _is_recorded(disk, path, outs):
            yield Fault([path], BadInput(path, "changes after it was made", "what its rule wrote", MOVES))
    for out in pipeline.outs(values) if made else ():  # without its records Snakemake itself says so
        if out.parts[0] in ("models", "results", "tables"):
            there = {path for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file()}
            there = {path for path in there if path.parent not in listed}
            if stray := sorted(path for path in there - set(made) if not is_ignored(path)):
                yield Fault(stray, BadInput(stray[0], "a file that no rule makes", "models and results only", MOVES))
    yield from differing(disk, same, f"{MOVES}; `um record --rebuilt` if snakemake made it on another machine")


def _is_recorded(disk: Disk, path: Path, outs: dict[Path, str]) -> bool:
    """Whether a file matches dvc.lock; then DVC has set its time."""
    out = next(out for out in [path, *path.parents] if out in outs or not out.name)
    listed = disk.listed(out, outs[out]) if out in outs else None
    return listed is not None and listed.get(path.relative_to(out).as_posix() if path != out else "") == disk.file(path)


def _unlisted(folder: Path) -> Iterator[Fault]:
    """Files that differ from their folder's index; Snakemake watches the index only."""
    if not (folder / "index.json").is_file():
        return  # Snakemake reports it
    index = load(Index, folder / "index.json")
    listed = {folder / name: entry.sha256 for name, entry in index.files.items()}
    if index.spec:
        listed[folder / "spec.json"] = index.spec
    there = {path for path in folder.rglob("*") if path.is_file() and not is_ignored(path)}
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


def changed(values: Params, lock: Lock) -> Iterator[Path]:
    """Outputs that are not what their job wrote, nor what dvc.lock records; Snakemake does not notice by itself.

    Only files whose time differs are read. For a changed folder with an index, its index.json is given.
    """
    disk, outs = Disk(), pipeline.recorded(values, lock)
    for path, record in jobs.made(values).items():
        if path.stat().st_mtime != record.endtime and not _is_recorded(disk, path, outs):
            yield path
    for folder in indexed(values):
        if (folder / "index.json").is_file() and _is_edited(folder, lambda path: _is_recorded(disk, path, outs)):
            yield folder / "index.json"


def forgive(values: Params, lock: Lock) -> None:
    """Clear Snakemake's killed-job marks on files that match dvc.lock: DVC would not rebuild them."""
    disk, outs = Disk(), pipeline.recorded(values, lock)
    for path, mark in jobs.records(values, "incomplete").items():
        if path.is_file() and _is_recorded(disk, path, outs):
            mark.unlink()


def indexed(values: Params) -> list[Path]:
    """The folders of outputs that have an index.json."""
    listed = {Path(pattern.format(dataset)) for pattern, dataset in product(OF_DATASET, values.datasets)}
    return sorted(listed | {Path(OF_RUN.format(run, seed)) for run, seed in product(values.runs(), values.seeds)})


def _is_edited(folder: Path, is_recorded: Callable[[Path], bool]) -> bool:
    """Whether a file was lost or added, or changed after the index was written."""
    path = folder / "index.json"
    index, written = load(Index, path), path.stat().st_mtime
    there = {file for file in folder.rglob("*") if file.is_file() and not is_ignored(file)} - {path}
    listed = {folder / name: entry.sha256 for name, entry in index.files.items()}
    listed |= {folder / "spec.json": index.spec} if index.spec else {}
    beside = {folder / "journal.jsonl", folder / "missing.tsv"}
    if listed.keys() - there or there - listed.keys() - beside or (index.missing and not there & beside):
        return True
    newer = [file for file in there if file.stat().st_mtime > written]
    return any(not is_recorded(file) if file in beside else sha256(file) != listed[file] for file in newer)


def of_jobs(values: Params) -> Iterator[Fault]:
    """Files that changed after a job read them."""
    made = jobs.made(values)
    sums: dict[Path, str] = {}
    for path, record in sorted(made.items()):
        for name, checksum in (record.input_checksums or {}).items():
            source = Path(name)
            if source in made and source.is_file():
                sums[source] = sums.get(source) or sha256(source)
                if sums[source] == checksum.removeprefix("sha256:"):
                    continue
                if path in jobs.asked():
                    found = f"changes after {path} was made from it"
                    yield Fault([source], BadInput(source, found, "what its rule wrote", MOVES))
                else:  # of an earlier version of the rules
                    found = "a file that no rule makes any more"
                    yield Fault([path], BadInput(path, found, "models and results only", MOVES))


def other_table(values: Params) -> Iterator[Fault]:
    """Compare the table with a new one: no job reads it, so no job notices a change."""
    from um.report.table import benchmark

    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            rows = partial(benchmark.rows, Path("results"), values=values)
            benchmark.write(
                lambda dataset, variant: rows(dataset, variant=variant), values.datasets, values, Path(folder)
            )
        for file in sorted(Path(folder).iterdir()):
            path = Path("results") / file.name
            if path.is_file() and path.read_bytes() != file.read_bytes():
                yield Fault([path], BadInput(path, "changes after it was made", "what `um table` writes", MOVES))
