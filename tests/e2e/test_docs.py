"""Every command in the README and in docs/ is run or parsed here, and every example is used as it stands."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import networkx as nx
import pytest
import torch
import typer
import yaml
from helpers.forking import launchers
from helpers.tiny import make_dataset, options
from pip._internal.commands import create_command

from um.aliases import translate
from um.cli import app
from um.download import sources
from um.report.table.published import FIELD

ROOT = Path(__file__).parents[2]
PRESETS = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))["overrides"]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
PROJECT = (
    "pyproject.toml",
    "constraints.txt",
    "Snakefile",
    "dvc.yaml",
    "params.yaml",
    "workflow",
    "profiles",
    "datasets",
    "src",
    ".dvcignore",
    "Makefile",
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


DOCUMENTED = [(page.name, line) for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]


@cache
def plan(project: Path, *command: str) -> str:
    """What a dry run prints; many pages have the same."""
    return run(project, *command)


def run(project: Path, *command: str) -> str:
    environment = os.environ | {"PATH": f"{launchers()}{os.pathsep}{os.environ['PATH']}"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    ended = subprocess.run(command, cwd=project, env=environment, text=True, **streams)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A checkout with a git and a DVC repository, the dataset of docs/datasets.md, and a folder as remote."""
    root = tmp_path_factory.mktemp("project")
    for name in PROJECT:
        source = ROOT / name
        shutil.copytree(source, root / name) if source.is_dir() else shutil.copy(source, root / name)
    described, _ = blocks(ROOT / "docs/datasets.md", "yaml")
    (root / "datasets/cooking").mkdir()
    (root / "datasets/cooking/dataset.yaml").write_text(described)
    run(root, "git", "init", "--quiet")
    run(root, "dvc", "init", "--quiet")
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    return root


def make(project: Path, words: list[str]) -> None:
    """The target exists and its recipe can be expanded."""
    run(project, "make", "--dry-run", *words[1:])


def snakemake(project: Path, words: list[str]) -> None:
    """Snakemake finds a plan; a single stage finds what it starts from."""
    if "--report" in words:  # of what is built: tests/workflow/test_report.py
        at = words.index("--report")
        words = words[:at] + words[at + 2 :]
    separator = words.index("--") if "--" in words else len(words)
    earlier = [project / "data/demo" / file for file in ("annotations.json", "features/index.json")]
    if "only=train" in words:
        for path in earlier:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert "train" in plan(project, *words[:separator], "--dry-run", *words[separator:])
    shutil.rmtree(project / "data", ignore_errors=True)


def um(project: Path, words: list[str]) -> None:
    """The command line takes these words, settings and data go together; tests/unit/test_cli.py runs the verbs."""
    if words[1] in ("train", "test"):
        translated = translate(words[1:])
        assert "--dataset" in translated, "the settings would be THUMOS14's, whatever the data are"
        assert translated[translated.index("--dataset") + 1] in PRESETS
    command, name, words, context = typer.main.get_command(app), "um", translate(words[1:]), None
    while hasattr(command, "resolve_command"):
        context = command.make_context(name, list(words), parent=context)
        name, command, words = command.resolve_command(context, words)
    command.make_context(name, words, parent=context)


def dvc(project: Path, words: list[str]) -> None:
    """DVC takes these words in a fresh repository, where nothing is recorded; `repro` plans its first stage."""
    if words[1] == "exp":  # tests/workflow/test_provenance.py runs them
        assert words[2] == "apply" or not words[3:] or words[3] in run(project, *words[:3], "--help")
        return
    run(
        project,
        *_elsewhere(project, words),
        *{"repro": ["--dry", "weights"], "pull": ["--allow-missing"]}.get(words[1], []),
    )


def _elsewhere(project: Path, words: list[str]) -> list[str]:
    """The words with a folder of the test for that which is mounted."""
    return [str(project.parent / "remote") if word.startswith("/mnt") else word for word in words]


def tar(project: Path, words: list[str]) -> None:
    """It packs what `dvc push` writes; tests/workflow/test_remotes.py pulls from such an archive."""
    (project.parent / "remote/files/md5").mkdir(parents=True, exist_ok=True)
    run(project, *_elsewhere(project, words))


def activate(project: Path, words: list[str]) -> None:
    """The Makefile makes this environment, or a command of the same page."""
    folder = Path(words[1]).parts[0]
    assert f"-m venv {folder}" in (ROOT / "Makefile").read_text() + (ROOT / "docs/install.md").read_text()


def export(project: Path, words: list[str]) -> None:
    """A variable that the description of a dataset uses, or the code."""
    described, _ = blocks(ROOT / "docs/datasets.md", "yaml")
    texts = [described, *(path.read_text() for path in ROOT.glob("datasets/*/dataset.yaml"))]
    code = [path.read_text() for path in ROOT.glob("src/um/**/*.py")]
    name = words[1].split("=")[0]
    assert any(f"${name}/" in text for text in texts) or any(f'"{name}"' in text for text in code)


def add(project: Path, words: list[str]) -> None:
    """What dvc.yaml leaves to git."""
    ledger = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    assert words[2:] == [
        "dvc.lock",
        "datasets",
        *sorted((next(iter(out)) for out in ledger["stages"]["table"]["outs"]), key=_form),
    ]


def _form(path: str) -> int:
    return ["csv", "md", "html", "tex"].index(path.rsplit(".", 1)[1])


def python(project: Path, words: list[str]) -> None:
    """A script of benchmarks/, with options that it has, which test_benchmarks runs; or a new environment."""
    if words[1:3] == ["-m", "venv"]:
        return
    text = (ROOT / words[1]).read_text("utf-8")
    assert all(f'"{word}"' in text for word in words if word.startswith("--"))


def tensorboard(project: Path, words: list[str]) -> None:
    """The program takes these words; tests/unit/test_train.py writes what it shows."""
    (project / words[2]).mkdir()
    run(project, *words, "--inspect")


def pip(project: Path, words: list[str]) -> None:
    """pip has these options; tests/e2e/test_install.py makes and installs the wheel."""
    create_command(words[1]).parse_args(words[2:])
    pinned = (ROOT / "constraints.txt").read_text() + (ROOT / "workflow/versions.txt").read_text()
    assert all(word in pinned for word in words if "==" in word)


def image(project: Path, words: list[str]) -> None:
    """The recipe exists and has this argument, or the image is one of those built; `um` takes what follows."""
    recipes = {path.name: path.read_text() for path in (ROOT / "containers").iterdir()}
    if words[1] == "build":
        (recipe,) = (word for word in words if word.startswith("containers/"))
        assert "TORCH=cuda" not in words or "TORCH=cpu" in recipes[Path(recipe).name]
        return
    at = words.index("localize")
    assert any(line.startswith(f"{words[0]} build ") and words[at - 1] in line.split() for _, line in DOCUMENTED)
    um(project, ["um", *words[at:]])


CHECKS: dict[str, Callable[[Path, list[str]], None]] = {
    "make": make,
    "snakemake": snakemake,
    "um": um,
    "dvc": dvc,
    ".": activate,
    "export": export,
    "git": add,
    "python": python,
    "pip": pip,
    "docker": image,
    "apptainer": image,
    "tar": tar,
    "tensorboard": tensorboard,
}


@pytest.mark.parametrize(("page", "line"), DOCUMENTED, ids=[f"{page}: {line[:60]}" for page, line in DOCUMENTED])
def test_documented_command(project, page, line):
    words = shlex.split(line)
    assert words[0] in CHECKS, f"{page}: no check for `{line}`"
    CHECKS[words[0]](project, words)


def test_readme_runs_on_a_folder_in_the_public_layout(tmp_path):
    """The section on public features as it stands, on a tiny dataset of that layout, in a folder with params.yaml."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    make_dataset(tmp_path / "THUMOS14", official=True, streams=("rgb", "flow"))
    state = {
        "cas_module.conv.0.weight": torch.randn(8, 12, 3),
        "cas_module.conv.0.bias": torch.randn(8),
        "cas_module.classifier.0.weight": torch.randn(3, 8, 1),
    }
    torch.save(state, tmp_path / "best_model.pkl")
    (block,) = (block for block in blocks(ROOT / "README.md", "sh") if "THUMOS14" in block)
    for line in block.splitlines():
        words = shlex.split(line)
        run(tmp_path, *words, *(options() if words[1] == "train" else []))
    for name in ("seed0", "official"):
        metrics = json.loads((tmp_path / f"results/thumos14/{name}/metrics.json").read_text())
        assert metrics["num_videos"] == 4


def test_the_example_of_a_dataset_works(tmp_path, monkeypatch):
    """Annotations, description and overrides of docs/datasets.md as they stand, up to the copied videos."""
    from um import params
    from um.dataset import downloaded
    from um.download.provide import provide

    page = ROOT / "docs/datasets.md"
    (annotations,) = blocks(page, "json")
    described, overrides = blocks(page, "yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COOKING", str(tmp_path))
    for folder in ("videos", "datasets/cooking"):
        (tmp_path / folder).mkdir(parents=True)
    for name in json.loads(annotations)["database"]:
        (tmp_path / f"videos/{name}.mp4").write_bytes(b"a video")
    (tmp_path / "videos/annotations.json").write_text(annotations)
    (tmp_path / "datasets/cooking/dataset.yaml").write_text(described)
    (tmp_path / "params.yaml").write_text(overrides)
    values = params.load()
    assert values.of("cooking").train.num_segments == 100
    out = tmp_path / "data/cooking"
    provide("cooking", values.of("cooking").download, out)
    assert sorted(downloaded(out)) == ["train/cooking_01", "val/cooking_02"]


def test_every_source_is_in_the_table_of_those_that_were_not_tried():
    text = (ROOT / "docs/datasets.md").read_text("utf-8")
    for path in ROOT.glob("datasets/*/sources.yaml"):
        dataset, table = path.parent.name, sources.read(path)
        (row,) = (line for line in text.splitlines() if line.startswith(f"| [{dataset}]("))
        for kind, cell in zip(sources.KINDS, row.split("|")[2:-1], strict=True):
            versions = getattr(table, kind)
            assert set(re.findall("`(.+?)`", cell)) == {version.name for version in versions}
            links = [link for v in versions for file in v.files for link in [*file.urls, *file.pages]]
            hosts = {urlsplit(link).hostname for link in links} - {"crcv.ucf.edu"}
            listed = set(re.findall(r"[\w.-]+\.(?:com|edu|nz|org)", cell))
            assert {host for host in hosts if not any(host.endswith(known) for known in listed)} == set()


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_to_files_and_headings_lead_somewhere(page):
    made = {"results/benchmark.md"}  # by the workflow
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", page.read_text("utf-8")):
        path = (page.parent / target).resolve() if target else page
        assert path.exists() or path.relative_to(ROOT).as_posix() in made, target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_every_page_asks_its_question_at_the_beginning():
    for page in PAGES:
        if page.name != "README.md":
            assert "?" in " ".join(page.read_text("utf-8").splitlines()[:4]), page.name


def test_the_table_in_the_readme_is_the_benchmark():
    with (ROOT / "results/benchmark.csv").open(newline="") as file:
        figures = [row for row in csv.DictReader(file) if row["metric"] in ("mAP", "average_mAP")]
    text = (ROOT / "README.md").read_text("utf-8")
    of_demo = text[text.index("| Demo |") : text.index("- **Last**")]
    rows = re.findall(r"^\| ([A-Z][^|]+) \| (\d.+) \|$", of_demo.partition("|---")[2], re.MULTILINE)
    assert {method for method, _ in rows} == {row["method"] for row in figures if row["dataset"] == "demo"}
    for method, cells in rows:
        own = [row for row in figures if (row["dataset"], row["method"]) == ("demo", method)]
        *values, interval = cells.split(" | ")
        assert values == [percent(row["mean"]) + (f" ± {percent(row['sd'])}" if row["sd"] else "") for row in own]
        low, high = own[-1]["low"], own[-1]["high"]
        assert interval == (f"{percent(low)} to {percent(high)}" if low else "–")


def test_published_averages_in_the_readme_are_those_of_the_table():
    with (ROOT / "results/benchmark.csv").open(newline="") as file:
        averages = [row for row in csv.DictReader(file) if row["metric"] == "average_mAP"]
    published = {(row["method"], row["dataset"]): percent(row["mean"]) for row in averages}
    text = (ROOT / "README.md").read_text("utf-8")
    block = text[text.index("| | THUMOS14 |") :].split("\n\n")[0]
    for method, *cells in (line.strip("| ").split(" | ") for line in block.splitlines()[2:]):
        row = "Ours (last)" if method == "Ours" else method
        assert cells == [published.get((row, dataset), "–") for dataset in FIELD]


def percent(text: str) -> str:
    return f"{100 * float(text):.1f}"


def test_the_graph_in_the_readme_is_that_of_the_rules(project):
    """Without `all`, and without edges that follow from others."""
    drawn = run(project, "snakemake", "--rulegraph", "mermaid-js")
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", drawn))
    graph = nx.DiGraph([(names[a], names[b]) for a, b in re.findall(r"(id\d+) --> (id\d+)", drawn)])
    graph.remove_node("all")
    (block,) = blocks(ROOT / "README.md", "mermaid")
    assert set(re.findall(r"(\w+) --> (\w+)", block)) == set(nx.transitive_reduction(graph).edges)


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z-]+)`", page.read_text("utf-8"))}
    assert named <= targets


def test_the_example_of_a_backbone_is_one(tmp_path, monkeypatch):
    from um.features import backbones

    (block,) = re.findall(r"^   ```python\n(.*?)^   ```$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M | re.S)
    (tmp_path / "mine-rgb.py").write_text(re.sub("^   ", "", block, flags=re.MULTILINE))
    monkeypatch.setattr(backbones, "CONFIGS", tmp_path)
    assert backbones.clip_of("mine", "rgb", 16) == backbones.Clip(frames=8, stride=8)
    assert backbones.width("mine", "rgb") == 2048


def test_documented_parameters_exist():
    """Every `name` in backticks in docs/method.md that looks like a parameter is one, or a value of one."""
    from um.params import Localize, Train

    fields = Train.model_fields | Localize.model_fields
    known = {*fields, *(value for field in fields.values() for value in get_args(field.annotation)), "best_on_test"}
    text = (ROOT / "docs/method.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text))
    assert named - known == set()


def test_citation_is_yaml_with_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert [author["family-names"] for author in cited["preferred-citation"]["authors"]] == [
        "Lee",
        "Wang",
        "Lu",
        "Byun",
    ]


def test_the_version_is_the_same_everywhere():
    from um import __version__

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
