"""Snakemake, DVC and git, run as programs."""

import subprocess
import sys
from pathlib import Path

from um.errors import BadInput


def is_checkout() -> bool:
    """Whether the working directory is the root of a checkout of the project."""
    return Path("Snakefile").is_file() and Path("dvc.yaml").is_file()


def check_checkout(verb: str) -> None:
    """Refuse to run the workflow elsewhere.

    Raises:
        BadInput: the working directory is not the root of a checkout.
    """
    if not is_checkout():
        found, hint = "no Snakefile and dvc.yaml", "clone the project, and run it at the root of the clone"
        raise BadInput(Path.cwd(), found, f"a checkout of the project, which `{verb}` needs", hint)


def run(name: str, *arguments: str) -> str:
    """What a program beside this Python prints; shown if it fails."""
    return output([path_of(name), *arguments])


def path_of(name: str) -> str:
    """The path of a program beside this Python.

    Raises:
        BadInput: it is not there.
    """
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise BadInput(path, "no such file", f"{name} beside {sys.executable}", "`make .venv/.ready` installs it")
    return str(path)


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
