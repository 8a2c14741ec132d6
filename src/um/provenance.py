"""The hand-shake between Snakemake, which does the work, and DVC, which keeps the ledger."""

import base64
import hashlib
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from um import params
from um.errors import BadInput
from um.files import sha256
from um.forms import read_json
from um.params import Params

log = logging.getLogger(__name__)

LEDGER = Path("dvc.yaml")
OF_SHARDS = {"extract_shard", "download_shard"}  # rules whose files do not last
COMMITTED = ("src/", "datasets/")  # dependencies that git keeps
RECORDS = ("missing.tsv", "sources.lock.json")  # what a download has found out: no reason to do it again


def stages() -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml as they are written, of one dataset `${item.dataset}` and one seed `${item.seed}`."""
    written = _written()["stages"]
    return {name: stage.get("do", stage) for name, stage in written.items()}


def _written() -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(LEDGER.read_text("utf-8").replace("${item}", "${item.dataset}")))
    except FileNotFoundError:
        raise BadInput(LEDGER, "no such file", "the project's dvc.yaml", "run from the project's root") from None


def code(stage: str, dataset: str = "") -> str:
    """sha256 over the committed files that dvc.yaml names as dependencies of a stage."""
    digest = hashlib.sha256()
    for dependency in _dependencies(stage, dataset):
        path = Path(dependency)
        if not path.exists():
            raise BadInput(LEDGER, f"{path}, which does not exist", "dependencies that do", f"correct stage {stage}")
        if dependency.startswith(COMMITTED):
            for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
                if "__pycache__" not in file.parts and file.name not in RECORDS and not file.name.startswith("."):
                    digest.update(f"{file.as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _dependencies(stage: str, dataset: str) -> list[str]:
    written = [text.replace("${item.dataset}", dataset) for text in stages()[stage]["deps"]]
    return [text for text in written if text.startswith(COMMITTED)]


def check_ledger(values: Params) -> None:
    """dvc.yaml cannot loop over the dependencies of one stage: table must name every dataset's results."""
    listed = stages()["table"]["deps"]
    ours, theirs = (next(v[name] for v in _written()["vars"] if name in v) for name in ("ours", "theirs"))
    for dataset in values.datasets:
        if (dataset in ours) + (dataset in theirs) != 1:
            found, expected = f"{dataset} not in one of the lists `ours` and `theirs`", "every one of `datasets` in one"
            raise BadInput(LEDGER, found, expected, "may `dvc push` pass on its videos? Then they are `ours`")
        if f"results/{dataset}" not in listed:
            found = f"stage table without results/{dataset}"
            raise BadInput(LEDGER, found, "the results of all `datasets`", "repeat demo's lines there for it")


def check_leftovers(values: Params) -> None:
    """DVC hashes whole folders: what is there besides what params.yaml asks for could not be built again."""
    built = {f"seed{seed}" for seed in values.seeds}
    for dataset in values.datasets:
        for folder in (Path("models") / dataset, Path("results") / dataset):
            unknown = sorted(path.name for path in folder.glob("*") if path.name not in built)
            if not values.of(dataset).train.held_out:
                unknown += sorted(str(path.relative_to(folder)) for path in folder.glob("seed*/selected"))
            if unknown:
                found = f"{', '.join(unknown)}, not of the seeds {', '.join(map(str, values.seeds))} and `held_out`"
                raise BadInput(
                    folder,
                    found,
                    "what params.yaml asks for",
                    f"rm -r {' '.join(str(folder / name) for name in unknown)}",
                )


def restore() -> None:
    """After `dvc pull` or `dvc checkout`, tell Snakemake that what DVC calls clean is up to date.

    Files that are not here do not matter as long as nothing asks for them: results can be had without videos.

    Raises:
        BadInput: DVC or, afterwards, Snakemake has work to do.
    """
    values = params.load()
    report = run("dvc", "repro", "--dry", "--allow-missing")
    if changed := re.findall(r"Running stage '(.+?)'", report):
        hint = "`dvc status` tells why; `dvc checkout`, `dvc pull` or `dvc repro`"
        raise BadInput("dvc", f"work for {', '.join(changed)}", "a clean ledger", hint)
    run("snakemake", "--touch", "--forceall")
    if planned := plan():
        raise BadInput("snakemake", f"work for {', '.join(planned)}", "all files of the ledger", "`dvc pull`, or build")
    absent = [out for out in _outs(values) if not Path(out).exists()]
    log.info("restored: Snakemake and DVC agree%s", f"; not here: {', '.join(absent)}" if absent else "")


def record() -> None:
    """After `snakemake`, tell DVC that what Snakemake calls up to date is the record.

    Raises:
        BadInput: Snakemake has work to do or knows nothing of the files, files differ from their index or were changed
            after they were made, there are files that nothing makes, or DVC is not clean afterwards.
    """
    values = params.load()
    check_ledger(values)
    check_leftovers(values)
    for dataset in values.datasets:
        for folder in ("videos", "features"):
            _check_index(Path("data") / dataset / folder)
    made = _made()
    if changed := sorted(path for path, time in made.items() if path.stat().st_mtime != time):
        hint = f"`um restore` if that was DVC, else rm {changed[0]}; snakemake"
        raise BadInput(changed[0], "changes after it was made", "what its rule wrote", hint)
    if planned := plan():
        raise BadInput("snakemake", f"work for {', '.join(planned)}", "results that are up to date", "run snakemake")
    _check_stray(values, set(made))
    run("dvc", "commit", "--force")
    run("snakemake", "--touch", "--forceall")  # DVC has given the files new times
    if unclean := _status():
        raise BadInput("dvc", f"changes in {', '.join(unclean)}", "a clean ledger", "`dvc status` tells why")
    log.info("recorded: commit dvc.lock, datasets/ and results/benchmark.*, then `dvc push`")


def plan() -> list[str]:
    """The rules that Snakemake would run.

    Raises:
        BadInput: there are files of whose making Snakemake has no record, so that it cannot tell.
    """
    report = run("snakemake", "--dry-run", "--quiet", "rules")
    named = re.search(r"Rules with missing metadata: (.+)", report)
    if unknown := sorted(set(named[1].split() if named else ()) - OF_SHARDS):
        hint = "`um restore` if they come from `dvc pull`, else delete them and run snakemake"
        raise BadInput("snakemake", f"no record of how files of {' '.join(unknown)} were made", "its own record", hint)
    if "Nothing to be done" in report:
        return []
    return sorted(set(re.findall(r"^(\w+) +\d+$", report, re.MULTILINE)) - {"total", "all"})


def _outs(values: Params) -> list[str]:
    """What the stages make, for all datasets and seeds."""
    outs: dict[str, None] = {}
    for stage in stages().values():
        for out in stage["outs"]:
            pattern = out if isinstance(out, str) else next(iter(out))
            for dataset in values.datasets:
                for seed in values.seeds:
                    outs[pattern.replace("${item.dataset}", dataset).replace("${item.seed}", str(seed))] = None
    return list(outs)


def _status() -> list[str]:
    """The stages that DVC calls changed."""
    report = run("dvc", "status")
    return [] if "up to date" in report else re.findall(r"^(\S+):$", report, re.MULTILINE) or [report]


def _check_index(folder: Path) -> None:
    """Snakemake watches a folder's index, not the files that it lists."""
    index = read_json(folder / "index.json")
    listed = {folder / name: entry["sha256"] for name, entry in index["files"].items()}
    if "spec" in index:
        listed[folder / "spec.json"] = index["spec"]
    there = {path for path in folder.rglob("*") if path.is_file()}
    there -= {folder / name for name in ("index.json", "journal.jsonl", "missing.tsv")}
    wrong = [path for path in sorted(there & set(listed)) if sha256(path) != listed[path]]
    if wrong := sorted({*wrong, *(there ^ set(listed))}):
        names = ", ".join(path.relative_to(folder).as_posix() for path in wrong[:3]) + (", …" if wrong[3:] else "")
        raise BadInput(
            folder, f"{names} not as listed", "the files of index.json", f"rm {folder}/index.json; snakemake"
        )


def _made() -> dict[Path, float]:
    """Outputs that are there, and when their job had made them, from Snakemake's records.

    Snakemake itself takes a newer output for a good one, whoever wrote it.
    """
    folder, made = Path(".snakemake/metadata"), {}
    for record in (path for path in folder.rglob("*") if path.is_file()):
        name = "".join(part.removeprefix("@") for part in record.relative_to(folder).parts)  # long names are cut
        made[Path(base64.b64decode(name).decode())] = float(read_json(record)["endtime"])
    return {path: time for path, time in made.items() if path.exists()}


def _check_stray(values: Params, made: set[Path]) -> None:
    """DVC hashes whole folders of models and results: what no rule makes could not be built again."""
    for out in map(Path, _outs(values)):
        if out.parts[0] in ("models", "results"):
            there = {path for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file()}
            if stray := sorted(there - made):
                raise BadInput(stray[0], "a file that no rule makes", "models and results only", f"rm {stray[0]}")


def run(tool: str, *arguments: str) -> str:
    """What a tool of this Python's environment says; it is shown when the tool fails."""
    path = Path(sys.executable).with_name(tool)
    if not path.exists():
        raise BadInput(path, "no such file", f"{tool} beside {sys.executable}", "`make .venv/.ready` installs it")
    return output([str(path), *arguments])


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
