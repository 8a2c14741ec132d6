"""Checks that this machine has what a run needs, one line each."""

import contextlib
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import requests

from um import params
from um.dataset import root
from um.errors import BadInput
from um.features import mmaction2, weights
from um.features.weights import WEIGHTS
from um.forms import read_yaml, validate
from um.provenance import pipeline, tools

DISTRIBUTION = "um-localization"
SOURCE = str(Path(__file__).parents[2])  # of a checkout
PYTHONS = (3, 11), (3, 12), (3, 13)  # as in pyproject.toml
PLATFORMS: dict[tuple[str, str], tuple[Literal["ok", "note", "missing"], str]] = {
    ("Linux", "x86_64"): ("ok", "tested"),
    ("Linux", "aarch64"): ("note", "pip finds all packages, but nobody ran it"),
    ("Darwin", "arm64"): ("note", "pip finds all packages, but nobody ran it; networks run on the CPU"),
    ("Darwin", "x86_64"): ("missing", "PyTorch has no new builds for it; use Linux, or a Mac with an ARM processor"),
    ("Windows", "AMD64"): ("missing", "not supported; use Linux in WSL 2"),
    ("Windows", "ARM64"): ("missing", "not supported; use Linux in WSL 2"),
}
CONSTRAINTS = Path("constraints.txt")
VERSIONS = Path("workflow/versions.txt")  # the part of it that results depend on
LIBRARIES = "libgl1 libglib2.0-0"  # that OpenCV's wheels do not bring
FREE_GB = 5
PATIENCE = 5  # seconds for a host to answer
PLUGINS = {"ssh": "dvc_ssh", "s3": "dvc_s3", "http": "dvc_http", "https": "dvc_http"}
REMOTES = "or use ssh://host/folder, s3://bucket/folder or, read-only, https://host/folder"
ADDED = "`dvc remote add -d storage /a/folder; dvc remote modify storage verify true`"
ADDRESS = "https://host/folder"


class Finding(NamedTuple):
    """One line."""

    what: str
    state: Literal["ok", "note", "not yet", "missing"]  # "not yet": made by a run, or optional
    text: str


def findings() -> Iterator[Finding]:
    """All checks; a run is possible if nothing is `missing`."""
    yield _python()
    yield _platform()
    yield from _packages()
    yield _mmaction2()
    yield _opencv()
    yield _device()
    yield _disk()
    yield _weights()
    if not tools.is_checkout():
        text = "none here: `um build`, `um record`, `um restore` and `um accept` need one; other verbs work anywhere"
        yield Finding("checkout", "note", text)
        return
    yield from _datasets()
    yield _remote()
    yield _git()


def _python() -> Finding:
    found = platform.python_version()
    if sys.version_info[:2] in PYTHONS:
        return Finding("python", "ok", found)
    known = ", ".join(f"3.{minor}" for _, minor in PYTHONS)
    return Finding("python", "missing", f"one of {known} (this is {found}): make the environment with one of these")


def _platform() -> Finding:
    here = platform.system(), platform.machine()
    state, text = PLATFORMS.get(here, ("note", "not tested"))
    return Finding("platform", state, f"{' '.join(here)}: {text}")


def _packages() -> Iterator[Finding]:
    try:
        texts = [text for text in requires(DISTRIBUTION) or [] if "extra ==" not in text]
    except PackageNotFoundError:
        yield Finding("packages", "missing", f"{DISTRIBUTION} is not installed: {_pip(shlex.join(['-e', SOURCE]))}")
        return
    if absent := [text for text in texts if _version(re.split(r"[^\w.-]", text)[0]) is None]:
        yield Finding("packages", "missing", _pip(shlex.join(absent)))
        return
    files = [file for file in (CONSTRAINTS, VERSIONS) if file.exists()] or [params.PRESETS / VERSIONS.name]
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    pins = [line.split(";")[0].split("==") for line in lines if "==" in line and not line.startswith("#")]
    here = {name: (_version(name), pin) for name, pin in pins}
    other = [f"{name} {found} for {pin}" for name, (found, pin) in here.items() if found not in (None, pin)]
    if other:
        more = f" and {len(other) - 3} more" if other[3:] else ""
        text = f"not as tested ({files[0].name}): {', '.join(other[:3])}{more}; results may differ in the last digits"
        yield Finding("packages", "note", text)
    else:
        yield Finding("packages", "ok", f"{sum(found is not None for found, _ in here.values())} as tested")


def _pip(words: str) -> str:
    """The command that installs into this environment, with the tested versions if they are listed here."""
    constraints = f"-c {CONSTRAINTS} " if CONSTRAINTS.exists() else ""
    return f"`{shlex.quote(sys.executable)} -m pip install {constraints}{words}`"


def _mmaction2() -> Finding:
    if found := _version("mmaction2"):
        return Finding("mmaction2", "ok", found)
    if mmaction2.folder().is_dir():
        return Finding("mmaction2", "ok", str(mmaction2.folder()))
    text = f"fetched when features are first extracted (1 MB), or `{mmaction2.command()}`"
    return Finding("mmaction2", "not yet", text)


def _version(package: str) -> str | None:
    try:
        return version(package).split("+")[0]  # 2.13.0+cpu → 2.13.0
    except PackageNotFoundError:
        return None


def _opencv() -> Finding:
    try:
        import cv2
    except ImportError as error:  # on servers without a screen
        text = f"{error}; on Debian and Ubuntu: `apt-get install {LIBRARIES}`"
        return Finding("opencv", "missing", text)
    return Finding("opencv", "ok", cv2.__version__)


def _device() -> Finding:
    if not find_spec("torch"):
        return Finding("device", "missing", "PyTorch is not installed")
    import torch

    if torch.cuda.is_available():
        return Finding("device", "ok", torch.cuda.get_device_name())
    cpu = f"CPU with {torch.get_num_threads()} threads"
    if not shutil.which("nvidia-smi"):
        return Finding("device", "ok", f"{cpu}, no GPU")
    why = "is a build for CPUs" if torch.version.cuda is None else f"(for CUDA {torch.version.cuda}) finds no GPU"
    text = f"{cpu}: PyTorch {torch.__version__} {why}, but nvidia-smi is here; docs/install.md tells how to replace it"
    return Finding("device", "note", text)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding("disk", "ok" if free > FREE_GB else "missing", f"{free:.0f} GB free; the demo needs {FREE_GB}")


def _weights() -> Finding:
    place = weights.default()
    if place.is_file():
        return Finding("weights", "ok", str(place))
    return Finding("weights", "not yet", f"{place}: fetched when first needed (50 MB)")


def _datasets() -> Iterator[Finding]:
    try:
        values = params.load()
        pipeline.check_ledger(values)
    except BadInput as error:
        yield Finding("params", "missing", str(error))
        return
    yield Finding("params", "ok", f"datasets {', '.join(values.datasets)}; seeds {', '.join(map(str, values.seeds))}")
    for dataset in values.datasets:
        steps = [name for name in ("videos", "features") if (root(dataset) / name / "index.json").is_file()]
        state: Literal["ok", "not yet"] = "ok" if "features" in steps else "not yet"
        yield Finding(
            dataset,
            state,
            f"has {' and '.join(steps) or 'nothing'}; `snakemake` builds the rest; `dvc pull; um restore` fetches it",
        )


def _remote() -> Finding:
    if not Path(".dvc").exists():
        return Finding("remote", "missing", "no .dvc here: run from the project's root")
    try:
        lines = tools.run("dvc", "config", "--list").splitlines()
    except BadInput as error:
        return Finding("remote", "missing", error.found)
    config = {key: value for key, _, value in (line.partition("=") for line in lines)}
    name = config.get("core.remote", "")
    if not (url := config.get(f"remote.{name}.url")):
        return Finding("remote", "not yet", f"to share data: {ADDED}; {REMOTES}")
    if _is_placeholder(url):
        set_it = f"`dvc remote modify {shlex.quote(name)} url {ADDRESS}`"
        text = f"`dvc pull` has no address to fetch from: {set_it} sets it; to share data: {ADDED}; {REMOTES}"
        return Finding("remote", "not yet", text)
    scheme = url.split("://")[0] if "://" in url else ""
    plugin = PLUGINS.get(scheme)
    if plugin and not find_spec(plugin):
        return Finding("remote", "missing", f"{plugin} for {url}: pip install -c {CONSTRAINTS} -e '.[remotes]'")
    if config.get(f"remote.{name}.verify", "").lower() not in ("true", "yes", "on", "1"):
        set_it = f"`dvc remote modify {shlex.quote(name)} verify true`"
        return Finding("remote", "note", f"{name}: {url}; `dvc pull` does not detect damaged files until {set_it}")
    if scheme in ("http", "https") and (trouble := _trouble(url)):
        return Finding("remote", "note", f"{name}: {trouble}; `dvc pull` only says that cache files are missing")
    return Finding("remote", "ok", f"{name}: {url}")


def _is_placeholder(url: str) -> bool:
    """Whether an address is invalid, like the one in .dvc/config, so that DVC prints it in its error."""
    with contextlib.suppress(ValueError):
        _ = urlsplit(url).port
        return False
    return True


def _trouble(url: str) -> str | None:
    """Why a web server does not give a file that dvc.lock records."""
    try:
        lock = validate(pipeline.Lock, read_yaml(pipeline.RECORD, "DVC's record"), pipeline.RECORD)
    except BadInput:
        return None  # nothing is recorded yet
    if not (md5 := lock.outs.get(WEIGHTS)):
        return None
    address = f"{url.rstrip('/')}/files/md5/{md5[:2]}/{md5[2:]}"
    try:
        with requests.get(address, stream=True, timeout=PATIENCE) as answer:
            return None if answer.ok else f"{address} ({WEIGHTS}) is not there (HTTP {answer.status_code})"
    except requests.RequestException as error:
        return f"{urlsplit(url).netloc} cannot be reached ({type(error).__name__})"


def _git() -> Finding:
    if not (git := shutil.which("git")):
        return Finding("git", "missing", "not installed; DVC needs it")
    if not Path(".git").exists():
        return Finding("git", "missing", "no repository here; DVC needs one: `git clone` the project")
    state = tools.output([git, "status", "--porcelain", "--branch"]).splitlines()
    changed = len(state) - 1
    if not changed:
        return Finding("git", "ok", f"clean, {state[0].removeprefix('## ')}")
    return Finding("git", "note", f"{changed} changed files; commit them with dvc.lock after `um record`")
