"""dvc.yaml and dvc.lock: the stages, what they depend on and make, and what DVC has recorded of them."""

import hashlib
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from um.errors import BadInput
from um.files import sha256
from um.forms import Form, Inside, read_yaml, validate
from um.params import OURS, Params, run_name

LEDGER = Path("dvc.yaml")
RECORD = Path("dvc.lock")
COMMITTED = ("src/", "datasets/")  # dependencies that git keeps
RECORDS = ("missing.tsv", "sources.lock.json")  # findings of a download: no reason to download again

Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]


class Stage(Form):
    """A stage of dvc.yaml, of one dataset `${item}` or `${item.dataset}`, `${item.variant}` and `${item.seed}`."""

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
    """A stage of dvc.lock."""

    cmd: str
    deps: list[Bytes] = Field([])
    params: dict[str, dict[str, Any]] = Field({})
    outs: list[Bytes] = Field([])


class Lock(Form):
    """`dvc.lock`."""

    stages: dict[str, Recorded] = Field({})

    @property
    def outs(self) -> dict[Path, str]:
        """Output → md5; that of a folder is the md5 of its file list, and ends in `.dir`."""
        return {Path(out.path): out.md5 for stage in self.stages.values() for out in stage.outs if out.md5}


def stages() -> dict[str, Stage]:
    """The stages of dvc.yaml, with `${item.dataset}` or `${item}` and `${item.seed}` unexpanded."""
    return {name: stage.do or stage for name, stage in _written().stages.items()}


def _written() -> Pipeline:
    values = read_yaml(LEDGER, "the project's dvc.yaml", "run from the project's root")
    return validate(Pipeline, values, LEDGER)


def code(stage: str, dataset: str = "") -> str:
    """sha256 over the committed files that dvc.yaml lists as dependencies of a stage."""
    paths = [Path(dependency) for dependency in _dependencies(stage, dataset)]
    if lost := [path for path in paths if not path.exists()]:
        raise BadInput(LEDGER, f"{lost[0]}, which does not exist", "dependencies that do", f"correct stage {stage}")
    return digest_of(paths)


def digest_of(paths: Iterable[Path]) -> str:
    """sha256 over committed files, and those in folders."""
    digest = hashlib.sha256()
    for path in paths:
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            if "__pycache__" not in file.parts and file.name not in RECORDS and not file.name.startswith("."):
                digest.update(f"{file.as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _dependencies(stage: str, dataset: str) -> list[str]:
    known = stages()
    if stage not in known:
        raise BadInput(LEDGER, f"no stage {stage}", "the stages of the Snakefile", Stage.hint)
    return [text for text in (_of(text, dataset) for text in known[stage].deps) if text.startswith(COMMITTED)]


def _of(pattern: str, dataset: str, variant: str = "", seed: int | str = "") -> str:
    """Fill in a dataset, variant and seed in a string of dvc.yaml."""
    for name, value in {"dataset": dataset, "variant": variant, "seed": str(seed)}.items():
        pattern = pattern.replace(f"${{item.{name}}}", value)
    return pattern.replace("${item}", dataset)


def outs(values: Params) -> list[Path]:
    """All outputs of the stages, for all datasets, compared variants and seeds."""
    outs: dict[Path, None] = {}
    for stage in stages().values():
        for out in stage.outs:
            pattern = out if isinstance(out, str) else next(iter(out))
            variants = values.compare if "${item.variant}" in pattern else [OURS]
            for item in product(values.datasets, variants, values.seeds):
                outs[Path(_of(pattern, *item))] = None
    return list(outs)


def kept_by_git() -> set[Path]:
    """Outputs with `cache: false`, which git tracks."""
    outs = [out for stage in stages().values() for out in stage.outs if not isinstance(out, str)]
    return {Path(name) for out in outs for name, options in out.items() if options.get("cache") is False}


def check_ledger(values: Params) -> None:
    """Check that dvc.yaml covers every dataset: it cannot loop over the dependencies of one stage."""
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
        folders = [f"results/{run_name(dataset, variant)}" for variant in values.compared()]
        if lost := [folder for folder in folders if folder not in known["table"].deps]:
            found = f"stage table without {lost[0]}"
            raise BadInput(LEDGER, found, "the results of all `datasets`", "repeat demo's lines there for it")


def recorded(values: Params, lock: Lock) -> dict[Path, str]:
    """The outputs of the stages that dvc.lock records, with their md5."""
    known = lock.outs
    return {out: known[out] for out in outs(values) if out in known}
