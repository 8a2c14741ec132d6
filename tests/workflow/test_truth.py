"""The truth table of docs/reruns.md: for every kind of change, both engines plan the same."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import networkx as nx
import pytest
from dvc.repo import Repo
from helpers.workspace import ROOT, Workspace

from um.plan import RULES, STAGES

from .test_faults import FULL

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # pygtrie, through DVC

OF_OUT = {  # out of DVC, without dataset and variant → stage
    "data/weights": "weights",
    "annotations.json": "download",
    "videos": "download",
    "features": "features",
    "models": "train",
    "results": "evaluate",
    "tables": "rows",
    "benchmark": "table",
}
OWN = ("data", "models", "results", "tables", "datasets", "src", "workflow")
Edit = Callable[[Workspace], object]


def from_(stage: str) -> set[str]:
    """A stage and all that follow."""
    return set(STAGES[STAGES.index(stage) :])


class Change(NamedTuple):
    """One kind of change.

    Attributes:
        what: changes, in words.
        edit: does it.
        planned: stages that both engines then plan.
    """

    what: str
    edit: Edit
    planned: set[str]


def param(key: str, value: object) -> Edit:
    return lambda w: w.change(key, value)


def append(name: str, text: str = "# edited\n") -> Edit:
    def edit(w: Workspace) -> None:
        with (w / name).open("a") as file:
            file.write(text)

    return edit


def note(folder: str) -> Edit:
    return lambda w: (w / folder / "note.txt").write_text("mine")


def flip(name: str) -> Edit:
    """Change one byte in the middle of a file."""

    def edit(w: Workspace) -> None:
        content = bytearray((w / name).read_bytes())
        content[len(content) // 2] ^= 1
        (w / name).write_bytes(content)

    return edit


def remove(name: str) -> Edit:
    def edit(w: Workspace) -> None:
        path = w / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return edit


def touch(name: str, seconds: int) -> Edit:
    """Move a file's time."""

    def edit(w: Workspace) -> None:
        state = (w / name).stat()
        os.utime(w / name, ns=(state.st_atime_ns, state.st_mtime_ns + seconds * 10**9))

    return edit


def redate(w: Workspace) -> None:
    """Give every file the time of now, the latest to those that were made first."""
    for path in sorted((p for top in OWN for p in (w / top).rglob("*")), key=lambda p: -p.stat().st_mtime_ns):
        path.touch()


def retitle(w: Workspace) -> None:
    path = w / "datasets/demo/dataset.yaml"
    path.write_text(path.read_text().replace("title: ", "title: New "))


def demo(key: str, value: object) -> Edit:
    return param(f"overrides.demo.{key}", value)


WEIGHTS = "data/weights/i3d-inception-rgb.safetensors"
VIDEO, ROWS = "data/demo/videos/test/demo_test_0001.mp4", "data/demo/features/test/rgb/demo_test_0001.npy"
SEED = "models/demo/seed0"
CHANGES = [
    Change("nothing", lambda _: None, set()),
    Change("`download` settings of a dataset", demo("download.render_seed", 1), from_("download") | {"features"}),
    Change("`features` settings", demo("features.clips", 3), from_("features")),
    Change("`train` settings", demo("train.margin", 50.0), from_("train")),
    Change("`localize` settings", demo("localize.gamma", 0.3), from_("evaluate")),
    Change("`evaluate` settings", demo("evaluate.tiou", "0.5:0.7:0.1"), from_("evaluate")),
    Change("`evaluate.missing`", demo("evaluate.missing", "drop"), from_("train")),
    Change("`localize` of a compared variant", param("variants.official.localize.gamma", 0.3), from_("evaluate")),
    Change("settings of another dataset or variant", param("overrides.thumos14.train.iterations", 7), set()),
    Change("one more seed", param("seeds", [0, 1, 2]), from_("train")),
    Change("one variant fewer in `compare`", param("compare", []), {"table"}),
    Change("the title, a link or a mirror of a dataset", retitle, from_("download")),
    Change("a module of one stage: `video/decode.py`", append("src/um/video/decode.py"), from_("features")),
    Change("`training.py`", append("src/um/training.py"), from_("train")),
    Change("`method/localize.py`", append("src/um/method/localize.py"), from_("evaluate")),
    Change("`evaluation/`", append("src/um/evaluation/metrics.py"), from_("evaluate")),
    Change("`report/table/`", append("src/um/report/table/render.py"), from_("rows")),
    Change("`cli.py`, `params.py` and other plumbing", append("src/um/params.py"), set()),
    Change("a rule: `workflow/rules/train.smk`", append("workflow/rules/train.smk", "\n\n# edited\n"), from_("train")),
    Change("`workflow/versions.txt`", append("workflow/versions.txt"), from_("download") | {"features"}),
    Change("other pins of `constraints.txt`", append("constraints.txt"), set()),
    Change("a note in the project", note("."), set()),
    Change("the bytes of a video", flip(VIDEO), from_("download")),
    Change("the bytes of the weights", flip(WEIGHTS), {"weights"} | from_("features")),
    Change("annotations", flip("data/demo/annotations.json"), from_("download")),
    Change("features", flip(ROWS), from_("features")),
    Change("`features/index.json`", append("data/demo/features/index.json", " "), from_("features")),
    Change("`features/spec.json`", append("data/demo/features/spec.json", " "), from_("features")),
    Change("a model", flip(f"{SEED}/last.safetensors"), from_("train")),
    Change("a checkpoint", flip(f"{SEED}/checkpoints/000002.safetensors"), from_("train")),
    Change("a training's losses", append(f"{SEED}/history.csv", "4,1,1,1,1\n"), from_("train")),
    Change("predictions", append("results/demo/seed0/predictions.json", " "), from_("evaluate")),
    Change("metrics", append("results/demo/seed0/metrics.json", " "), from_("evaluate")),
    Change("`tables/demo/rows.json`", append("tables/demo/rows.json", " "), from_("rows")),
    Change("the table", append("results/benchmark.md", "mine\n"), {"table"}),
    Change("a removed video", remove(VIDEO), from_("download")),
    Change("the removed folder `videos/`", remove("data/demo/videos"), from_("download")),
    Change("the removed folder `features/`", remove("data/demo/features"), from_("features")),
    Change("removed models", remove("models/demo"), from_("train")),
    Change("one removed model", remove(f"{SEED}/last.safetensors"), from_("train")),
    Change("removed results", remove("results/demo"), from_("evaluate")),
    Change("removed `tables/`", remove("tables/demo"), from_("rows")),
    Change("the removed `benchmark.md`", remove("results/benchmark.md"), {"table"}),
    Change("removed weights", remove(WEIGHTS), {"weights"} | from_("features")),
    Change("a stray file among videos", note("data/demo/videos"), from_("download")),
    Change("a stray file among models", note(SEED), set()),
    Change("a video's date, an hour later", touch(VIDEO, 3600), set()),
    Change("features' date, an hour later", touch("data/demo/features/index.json", 3600), set()),
    Change("a model's date, an hour later", touch(f"{SEED}/last.safetensors", 3600), set()),
    Change("a model's date, a day earlier", touch(f"{SEED}/last.safetensors", -86400), set()),
    Change("metrics' date, an hour later", touch("results/demo/seed0/metrics.json", 3600), set()),
    Change("all dates, as after `cp -r`", redate, set()),
    Change("`missing.tsv`", append("datasets/demo/missing.tsv", "x\tgone\t2026-01-01\n"), set()),
]


USUAL = {
    "nothing",
    "`localize` settings",
    "one variant fewer in `compare`",
    "`cli.py`, `params.py` and other plumbing",
    "a rule: `workflow/rules/train.smk`",
    "features",
    "a checkpoint",
    "metrics",
    "the removed `benchmark.md`",
    "a stray file among models",
}


def stages_of(files: set[str]) -> set[str]:
    """The stages that make some files."""
    found = set()
    for file in files:
        key = next(key for key in OF_OUT if re.match(rf"(data/demo/)?{key}|results/{key}", file))
        found.add("table" if file.startswith("results/benchmark") else OF_OUT[key])
    return found


def planned_by_snakemake(workspace: Workspace) -> set[str]:
    """The stages of the rules that Snakemake would run."""
    printed = workspace.done("snakemake", "--dry-run", "--quiet", "rules")
    return {RULES[rule] for rule in re.findall(r"^(\w+) +\d+$", printed, re.MULTILINE) if rule not in ("all", "total")}


def planned_by_dvc(workspace: Workspace) -> set[str]:
    """The stages that DVC calls changed, and all after them."""
    repo = Repo(str(workspace.root))
    changed = repo.status()
    graph = repo.index.graph  # from a stage to those it depends on
    again = {stage for stage in repo.index.stages if stage.addressing in changed}
    again = again.union(*(nx.ancestors(graph, stage) for stage in again))
    return stages_of({str(Path(out.fs_path).relative_to(repo.root_dir)) for stage in again for out in stage.outs})


def cases() -> list[object]:
    """All of them with UM_FAULTS; else one of a kind."""
    skip = [] if FULL else [pytest.mark.skip(reason="`make faults` runs all")]
    return [pytest.param(each, id=each.what, marks=[] if each.what in USUAL else skip) for each in CHANGES]


@pytest.mark.parametrize("change", cases())
def test_both_engines_plan_the_same(restored, change):
    change.edit(restored)
    assert (planned_by_dvc(restored), planned_by_snakemake(restored)) == (change.planned, change.planned)


def table() -> str:
    """The truth table, as docs/reruns.md has it."""
    lines = [f"| change | {' | '.join(STAGES)} |", f"|---|{'---|' * len(STAGES)}"]
    for change in CHANGES:
        cells = ["x" if stage in change.planned else "" for stage in STAGES]
        lines.append(f"| {change.what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_docs_have_the_truth_table():
    assert table() in (ROOT / "docs/reruns.md").read_text("utf-8")
