"""A clone of the project in which tests run its tools."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from ruamel.yaml import YAML

from helpers.forking import launchers

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent  # of the real programs
WEIGHTS = "data/weights/i3d-inception-rgb.safetensors"


class Workspace:
    """A clone of the project, and its tools."""

    def __init__(self, root: Path) -> None:
        self.root = root
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "PYTHONPATH": str(root / "src"), "DVC_NO_ANALYTICS": "1"}

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command, by the server if it is one of ours; its two streams come as one."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(command, cwd=self.root, env=self.forking, text=True, **streams)

    @property
    def forking(self) -> dict[str, str]:
        """The environment in which the server runs our programs."""
        return self.environment | {"PATH": f"{launchers()}{os.pathsep}{self.environment['PATH']}"}

    def start(self, *command: str, output: int | IO[bytes] = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, to be killed with all that it starts."""
        streams = {"stdout": output, "stderr": output}
        return subprocess.Popen(command, cwd=self.root, env=self.environment, start_new_session=True, **streams)

    def done(self, *command: str) -> str:
        """What a command prints that has to succeed."""
        result = self.run(*command)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def copy(self, destination: Path) -> "Workspace":
        """Another with the same files."""
        shutil.copytree(self.root, destination, symlinks=True)
        return Workspace(destination)

    def change(self, key: str, value: Any) -> None:
        """Set `a.b.c` in params.yaml; anchors stay."""
        yaml = YAML()
        values = yaml.load(self / "params.yaml")
        *parents, last = key.split(".")
        section = values
        for name in parents:
            section = section[name]
        section[last] = value
        yaml.dump(values, self / "params.yaml")

    def idle(self) -> bool:
        """Whether neither engine has anything to do."""
        return "Nothing to be done" in self.done("snakemake", "-n") and "up to date" in self.done("dvc", "status")

    def commit(self) -> None:
        """Commit everything that git does not ignore."""
        self.done("git", "add", "--all")
        self.done("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "state")
