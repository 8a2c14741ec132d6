"""The package on machines that are not the developers': other Pythons and platforms, no checkout, no decord."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from functools import partial
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from helpers.forking import launchers
from helpers.rendering import constant
from helpers.tiny import make_dataset, options

from um import doctor, params
from um.features import mmaction2

ROOT = Path(__file__).parents[2]
FULL = bool(os.environ.get("UM_FAULTS"))
PACKED = ("pyproject.toml", "README.md", "LICENSE", "params.yaml", "datasets", "workflow/versions.txt", "src")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
NAMES = ("getuid", "pread", "sched_getaffinity", "sysconf")  # of `os`, that Windows lacks; some are not on a Mac
GLIBC = [f"manylinux_2_{minor}_aarch64" for minor in range(17, 35)]
PLATFORMS = {  # wheels that pip takes, markers of pip's environment
    "Linux aarch64": (["manylinux2014_aarch64", *GLIBC], ("linux", "Linux", "aarch64")),
    "Darwin arm64": ([f"macosx_{major}_0_arm64" for major in range(11, 15)], ("darwin", "Darwin", "arm64")),
}
SOURCES = ("antlr4-python3-runtime", "connection_pool")  # have no wheel; pip builds these pure Python packages
PIP_ELSEWHERE = """
import json, sys
from pip._vendor.packaging import markers
here, there = markers.default_environment, json.loads(sys.argv.pop(1))
markers.default_environment = lambda: {**here(), **there}  # --platform leaves markers as they are
from pip._internal.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
ALL_MODULES = f"""
import builtins, importlib, os, pkgutil
there = builtins.__import__
def absent(name, space=None, *rest):
    if name.partition(".")[0] in {POSIX} and (space or {{}}).get("__name__", "").partition(".")[0] == "um":
        raise ImportError(f"no {{name}}")
    return there(name, space, *rest)
builtins.__import__ = absent
for name in {NAMES}:
    delattr(os, name)
import um
names = [module.name for module in pkgutil.walk_packages(um.__path__, "um.")]
for name in names:
    if ".configs." not in name:  # mmengine reads these
        importlib.import_module(name)
print(len(names), "modules")
"""


def outside() -> dict[str, str]:
    """The environment without the code of the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def pip(*words: object, **options: object) -> str:
    """What pip prints, which has to succeed."""
    command = [sys.executable, "-m", "pip", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, env=outside(), **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy."""
    root = tmp_path_factory.mktemp("source")
    for name in PACKED:
        (root / name).parent.mkdir(exist_ok=True)
        copy = partial(shutil.copytree, symlinks=True) if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    pip("wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", root / "dist", root)
    (made,) = (root / "dist").iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel and the libraries of this one, in which `import decord` fails."""
    root = tmp_path_factory.mktemp("installed")
    venv.create(root, with_pip=False)
    (site,) = root.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"import sys; sys.modules['decord'] = None\n{sysconfig.get_path('purelib')}\n")
    pip("--python", root / "bin/python", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel)
    return root / "bin"


def in_empty_folder(installed: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run `um` of the wheel."""
    command = [installed / "um", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=outside(), capture_output=True, text=True)


def test_the_wheel_holds_the_code_and_the_presets(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in (ROOT / "src/um").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.relative_to(ROOT / "src").as_posix() for path in files} <= names
    for listed in ("params.yaml", *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("datasets/*/*.yaml"))):
        assert zipfile.ZipFile(wheel).read(f"um/presets/{listed}") == (ROOT / listed).read_bytes()


def test_presets_are_there_without_a_checkout(installed, tmp_path):
    printed = in_empty_folder(installed, tmp_path, "data", "settings", "--dataset", "thumos14")
    expected = params.load(ROOT / "params.yaml").of("thumos14").model_dump()
    assert yaml.safe_load(printed.stdout)["overrides"]["thumos14"] == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["build", "record", "restore", "accept"])
def test_verbs_of_the_workflow_refuse_other_folders(verb, tmp_path, monkeypatch):
    from um.cli import app

    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=f"expected a checkout of the project, which `um {verb}` needs"):
        app([verb], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_a_published_dataset_can_be_downloaded_without_a_checkout(tmp_path, monkeypatch):
    """The links come from the package; checksums are noted in a copy here."""
    from um.download import provide

    monkeypatch.chdir(tmp_path)
    own = provide._adopted("thumos14")
    assert own == Path("datasets/thumos14")
    for path in own.iterdir():
        assert path.read_bytes() == (ROOT / path).read_bytes()
    (own / "sources.yaml").write_text("mine")
    provide._adopted("thumos14")
    assert (own / "sources.yaml").read_text() == "mine"


@pytest.mark.skipif(not FULL, reason="`make faults` runs it: 20 seconds")
def test_the_wheel_localises_a_video_in_an_empty_folder_without_decord(installed, kinetics_weights, tmp_path):
    from um.cli import app

    data, model, folder = make_dataset(tmp_path / "data", width=1024), tmp_path / "model", tmp_path / "empty"
    app(["train", "--data-dir", str(data), "--out", str(model), *options()], standalone_mode=False)
    folder.mkdir()
    video = constant(tmp_path / "video.mp4", 40)
    ended = in_empty_folder(installed, folder, "localize", video, "--model-file", model / "last.safetensors")
    assert ended.returncode == 0, ended.stderr
    assert "fetching" not in ended.stderr
    results = json.loads((folder / "predictions.json").read_text())["results"]
    assert {row["label"] for row in results["video"]} <= {"jump", "run", "throw"}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"predictions.json", "predictions-timelines/video.png", "predictions-timelines/.um.jsonl"}
    program = [installed / "python", "-c", "import um; print(um.__file__)"]
    where = subprocess.check_output(program, text=True, cwd=folder, env=outside())
    assert Path(where.strip()).is_relative_to(installed.parent)


def test_all_that_mmaction2_requires_but_decord_is_required_here():
    needed = {re.split(r"[^\w-]", text)[0].lower() for text in requires("mmaction2") if "extra ==" not in text}
    listed = {re.split(r"[^\w-]", text)[0].lower() for text in PROJECT["dependencies"]}
    assert needed - listed == {"decord"}
    assert "mmaction2" not in listed
    pinned = (ROOT / "workflow/versions.txt").read_text().split()
    assert mmaction2.PACKAGE in pinned
    assert "decord" not in (ROOT / "constraints.txt").read_text()


def test_mmaction2_comes_from_its_wheel_if_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(mmaction2, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", sys.path[:])
    mmaction2.provide()
    assert sys.path[-1] == str(mmaction2.folder())
    assert (mmaction2.folder() / "mmaction/.mim/configs/recognition/i3d").is_dir()
    assert list(mmaction2.folder().glob("mmaction2-1.1.0.dist-info/METADATA"))  # spec.json holds the version


@pytest.mark.skipif(not FULL, reason="`make faults` runs it")
def test_without_a_network_the_error_tells_how_to_install_mmaction2(monkeypatch, tmp_path):
    monkeypatch.setattr(mmaction2, "find_spec", lambda name: None)
    monkeypatch.setenv("UM_CACHE", str(tmp_path))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Exception, match=f"hint: .*or: {re.escape(mmaction2.command())}"):
        mmaction2.provide()
    assert list(tmp_path.iterdir()) == []


def test_every_module_is_imported_without_what_only_posix_has():
    ended = subprocess.run([f"{launchers()}/script", "-c", ALL_MODULES], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.split()[0]) > 100


def test_no_file_imports_posix_modules_when_it_is_imported():
    top = re.compile(rf"^(import|from) ({'|'.join(sorted(POSIX))})\b", re.MULTILINE)
    files = [path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in files if top.search(path.read_text("utf-8"))] == []


def test_all_places_name_the_same_pythons():
    tested = [f"3.{minor}" for _, minor in doctor.PYTHONS]
    assert PROJECT["requires-python"] == f">={tested[0]},<3.{doctor.PYTHONS[-1][1] + 1}"
    named = [text.rsplit(" :: ")[-1] for text in PROJECT["classifiers"] if " :: 3." in text]
    assert named == tested
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"python{version} " in makefile for version in tested)
    assert f"(3, 11) <= sys.version_info < (3, {doctor.PYTHONS[-1][1] + 1})" in makefile
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == tested
    assert PROJECT["name"] == doctor.DISTRIBUTION


@pytest.mark.parametrize(
    ("python", "said"), [("", "found no Python 3.11, 3.12 or 3.13"), ("/x/python", "/x/python -m")]
)
def test_make_takes_a_python_that_fits(python, said):
    command = ["make", "--dry-run", "--always-make", f"PYTHON={python}", ".venv/.ready"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert said in ended.stdout + ended.stderr
    assert (ended.returncode == 0) == bool(python)


@pytest.mark.skipif(not FULL, reason="`make faults` runs it: minutes of pip's questions to the package index")
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_pip_resolves_the_package_for_other_platforms(wheel, platform, python, tmp_path):
    tags, values = PLATFORMS[platform]
    names = ("sys_platform", "platform_system", "platform_machine", "python_version", "python_full_version")
    there = dict(zip(names, (*values, python, f"{python}.0"), strict=True))
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path / "pure", "-c", ROOT / "constraints.txt", *SOURCES)
    words = ["install", "--quiet", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--implementation=cp"]
    words += [f"--python-version={python}", f"--target={tmp_path}/x", f"--find-links={tmp_path}/pure"]
    words += [f"--report={tmp_path}/report.json", "-c", ROOT / "constraints.txt", wheel]
    words += [word for tag in tags for word in ("--platform", tag)]
    command = [sys.executable, "-c", PIP_ELSEWHERE, json.dumps(there), *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    names = {package["metadata"]["name"].lower() for package in report["install"]}
    assert {"torch", "av", "opencv-contrib-python", "mmengine"} <= names
    assert not {"decord", "mmaction2"} & names
