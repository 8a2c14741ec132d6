"""dvc.yaml and dvc.lock: the stages, what they depend on and make, and what DVC has recorded of them."""

import hashlib
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from um.errors import BadInput
from um.files import sha256
from um.forms import Form, Inside, read_yaml, validate
from um.params import OURS, Params

LEDGER = Path("dvc.yaml")
RECORD = Path("dvc.lock")
COMMITTED = ("src/", "datasets/", "workflow/")  # dependencies that git keeps
RECORDS = ("missing.tsv", "sources.lock.json")  # findings of a download: no reason to download again

Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]


class Stage(Form):
    """A stage of dvc.yaml, of one dataset `${item}`, or of `${item.dataset}` and `${item.variant}`."""

    hint: ClassVar[str] = "docs/reruns.md explains dvc.yaml; `git diff dvc.yaml` shows what was changed"

    deps: list[str] = Field([])
    outs: list[str | dict[str, dict[str, Any]]] = Field([])
    metrics: list[str] = Field([])
    plots: list[dict[str, dict[str, Any]]] = Field([])
    do: "Stage | None" = None  # of a `foreach`

    @property
    def made(self) -> dict[str, dict[str, Any]]:
        """Every output, metrics and plots included, and DVC's options for it."""
        listed = [*self.outs, *self.metrics, *self.plots]
        return {name: how for out in listed for name, how in ({out: {}} if isinstance(out, str) else out).items()}


class Pipeline(Form):
    """`dvc.yaml`."""

    hint: ClassVar[str] = Stage.hint

    stages: dict[str, Stage]


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


def lock() -> Lock:
    """`dvc.lock`.

    Raises:
        BadInput: missing, or damaged.
    """
    try:
        return validate(Lock, read_yaml(RECORD, "DVC's record", "`snakemake; um record` makes it"), RECORD)
    except BadInput as error:
        if not RECORD.exists():
            raise
        # a kill of DVC tears it
        kept = subprocess.run(["git", "ls-files", str(RECORD)], capture_output=True).stdout
        hint = f"`git checkout {RECORD}` takes back the committed one"
        hint = hint if kept else "`um record --aside` moves it to aside/ and begins a new one"
        raise BadInput(error.where, error.found, error.expected, hint) from None


def stages() -> dict[str, Stage]:
    """The stages of dvc.yaml, with `${item}` and the like unexpanded."""
    return {name: stage.do or stage for name, stage in _written().stages.items()}


def _written() -> Pipeline:
    state = LEDGER.stat() if LEDGER.exists() else None
    return _parsed(LEDGER.absolute(), (state.st_mtime_ns, state.st_size) if state else None)


@lru_cache(maxsize=1)
def _parsed(path: Path, state: tuple[int, int] | None) -> Pipeline:  # noqa: ARG001 (parsing takes 0.1 s)
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


def _of(pattern: str, dataset: str, variant: str = "") -> str:
    """Fill in a dataset and a variant in a string of dvc.yaml."""
    return pattern.replace("${item.dataset}", dataset).replace("${item.variant}", variant).replace("${item}", dataset)


def outs(values: Params) -> list[Path]:
    """All outputs of the stages, for all datasets and compared variants."""
    outs: dict[Path, None] = {}
    for stage in stages().values():
        for pattern in stage.made:
            variants = values.compare if "${item.variant}" in pattern else [OURS]
            for item in product(values.datasets, variants):
                outs[Path(_of(pattern, *item))] = None
    return list(outs)


def uncached(values: Params) -> set[Path]:
    """Outputs of which DVC keeps no copy: the table, which git keeps, and videos that are not shared."""
    outs = [(name, how) for stage in stages().values() for name, how in stage.made.items()]
    return {
        Path(_of(name, dataset))
        for name, how in outs
        if how.get("cache") is False
        for dataset in (values.unshared if "${item}" in name else [""])
    }


def check_ledger(values: Params) -> None:
    """Check that dvc.yaml has the stages of the workflow, and covers every dataset."""
    known = stages()
    if lost := [name for name in ("download", "fetch", "train", "evaluate", "rows", "table") if name not in known]:
        raise BadInput(LEDGER, f"no stage {lost[0]}", "the stages of the project", Stage.hint)
    if sorted(values.datasets) != sorted([*values.shared, *values.unshared]):
        found, hint = f"shared: {values.shared}, unshared: {values.unshared}", "DVC stores the videos of `shared`"
        raise BadInput("params.yaml", found, f"each of datasets: {values.datasets} in one of the two lists", hint)


def recorded(values: Params, lock: Lock) -> dict[Path, str]:
    """The outputs of the stages that dvc.lock records, with their md5."""
    known = lock.outs
    return {out: known[out] for out in outs(values) if out in known}
