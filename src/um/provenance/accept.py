"""`um accept`: edits of comments, docstrings and layout, which change no bytes, proven by hashes of the code."""

import ast
import hashlib
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

from um import params
from um.errors import BadInput, some
from um.files import held
from um.forms import read_yaml
from um.params import value_at
from um.provenance import faults, jobs, pipeline, tools
from um.provenance.disk import Disk, is_ignored, listing_md5
from um.provenance.pipeline import COMMITTED, RECORD, Lock

log = logging.getLogger(__name__)

COMMITS = 50  # of dvc.lock, in which the recorded version of a file is looked for
REBUILD = "`um build; um record` builds what it changes"


def accept() -> None:
    """Record edited code of stages as equal, if only comments, docstrings and layout differ from the recorded version.

    Raises:
        BadInput: other edits; changed settings or outputs; a recorded version that git does not have.
    """
    tools.check_checkout("um accept")
    with held(Path(), "um accept"):
        values, lock = params.load(), pipeline.lock()
        jobs.check_idle()
        disk, outs = Disk(), pipeline.recorded(values, lock)
        for fault in faults.differing(disk, outs, "`um restore --aside` restores it"):
            raise fault.error
        if lost := [out for out in pipeline.outs(values) if not out.exists()]:
            raise BadInput(lost[0], "no such file", "all that dvc.yaml lists", f"`dvc pull {lost[0]}` brings it")
        _check_settings(lock)
        deps = {Path(dep.path): dep.md5 for stage in lock.stages.values() for dep in stage.deps if dep.md5}
        edited = {path: md5 for path, md5 in deps.items() if disk.md5(path) != md5}
        files = sorted({file for path, md5 in edited.items() for file in _proven(path, md5)})
        if not files:
            log.info("nothing to accept: the code is what %s records", RECORD)
            return
        tools.run("dvc", "commit", "--force", "--no-relink")
        tools.run("snakemake", "--touch", "--forceall")
        if planned := jobs.plan():
            raise BadInput("snakemake", f"work for {', '.join(planned)}", "no work left", REBUILD)
        log.info("accepted, with the same code as recorded: %s", some([str(file) for file in files], "file", "files"))


def _check_settings(lock: Lock) -> None:
    """Refuse settings that differ from the recorded ones."""
    now = read_yaml(Path("params.yaml"))
    for stage in lock.stages.values():
        for key, value in (pair for given in stage.params.values() for pair in given.items()):
            if value_at(now, key) != value:
                raise BadInput("params.yaml", f"{key} that differs from {RECORD}", "the recorded settings", REBUILD)


def _proven(path: Path, md5: str) -> Iterator[Path]:
    """The edited files of a dependency, if their code is as recorded."""
    if not path.as_posix().startswith(COMMITTED):
        raise BadInput(path, "other bytes", f"what {RECORD} records", REBUILD)
    before = _recorded(path, md5)
    there = [
        file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file() and not is_ignored(file)
    ]
    now = {file: file.read_bytes() for file in there}
    if changed := sorted(before.keys() ^ now.keys()):
        raise BadInput(changed[0], "a file that was added or removed", f"the files that {RECORD} records", REBUILD)
    for file in (file for file in now if now[file] != before[file]):
        if file.suffix != ".py":
            raise BadInput(file, "an edit of a file that is not Python", "edits of comments in Python files", REBUILD)
        if _code(file, now[file]) != _code(file, before[file]):
            raise BadInput(file, "other code", "edits of comments, docstrings and layout only", REBUILD)
        yield file


def _recorded(path: Path, md5: str) -> dict[Path, bytes]:
    """The files of a dependency in the newest commit that has the recorded bytes."""
    commits = _git("log", f"-{COMMITS}", "--format=%H", "--", str(RECORD)).decode().split()
    for commit in dict.fromkeys(["HEAD", *commits]):
        names = _git("ls-tree", "-r", "-z", "--name-only", commit, "--", str(path)).decode().split("\0")
        listed = [Path(name) for name in names if name and not is_ignored(Path(name))]
        files = {file: _git("show", f"{commit}:{file.as_posix()}") for file in listed}
        sums = {file: hashlib.md5(content, usedforsecurity=False).hexdigest() for file, content in files.items()}
        whole = sums.get(path) or listing_md5(
            {file.relative_to(path).as_posix(): known for file, known in sums.items()}
        )
        if whole == md5:
            return files
    raise BadInput(path, "other bytes", f"a commit with the version that {RECORD} records", REBUILD)


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], capture_output=True, check=True).stdout


def _code(file: Path, content: bytes) -> str:
    """sha256 of a module's syntax tree, without docstrings."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        raise BadInput(file, "invalid Python", "code", "correct it") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body[0] = ast.Pass()
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
