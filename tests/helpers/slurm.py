"""A real Slurm on this machine: Debian's slurm-wlm, with two nodes on the loopback interface, and no accounting."""

import ctypes
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from helpers.debian import installed

NODES = ("node1", "node2")
PATIENCE = 60  # seconds
CONFIG = """
ClusterName=um
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory,CR_LLN
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
SlurmdTimeout=5
KillWait=1
PartitionName=all Nodes=ALL Default=YES
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=16 RealMemory=64000 Gres=gpu:2
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=16 RealMemory=64000 Gres=gpu:2
"""
# the plugin removes SLURM_CONF from the environment of a job step
STEP = '#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {program} "$@"\n'
END_WITH_PARENT = 1  # PR_SET_PDEATHSIG
GPUS = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"  # two files that are not GPUs, but can be counted


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def _end_with_parent() -> None:
    """No daemon outlives a test process, however that ends."""
    ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGTERM)


class Job(NamedTuple):
    """A job in the queue."""

    number: str
    node: str


class Cluster:
    """A running Slurm.

    Attributes:
        environment: variables that make Slurm's programs use it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.daemons = folder, dict[str, subprocess.Popen[bytes]]()
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": self.path(os.environ["PATH"])}
        (folder / "state").mkdir()
        (folder / "bin").mkdir()
        (folder / "bin/srun").write_text(STEP.format(folder=folder, program=shutil.which("srun")))
        (folder / "bin/srun").chmod(0o755)
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o400)
        names = {"folder": folder, "host": socket.gethostname().partition(".")[0], "ports": _free_ports(3)}
        (folder / "slurm.conf").write_text(CONFIG.format(**names))
        (folder / "gres.conf").write_text(GPUS)

    def path(self, path: str) -> str:
        """A search path on which Slurm's programs are found, too."""
        return os.pathsep.join([str(self.folder / "bin"), path, "/usr/sbin"])

    def start(self, name: str, *command: str) -> None:
        """Start a daemon in the foreground, in a session of its own."""
        with (self.folder / f"{name}.out").open("ab") as out:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
            environment = {**os.environ, **self.environment}
            self.daemons[name] = subprocess.Popen(
                command, env=environment, start_new_session=True, preexec_fn=_end_with_parent, **streams
            )

    def start_node(self, name: str) -> None:
        self.start(name, "slurmd", "-N", name, "-D")

    def ask(self, *command: str) -> str:
        """What one of Slurm's programs prints."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout.strip() if done.returncode == 0 else ""

    def until(self, true: Callable[[], object]) -> Any:
        """Wait until a function returns something true, and return that."""
        end = time.monotonic() + PATIENCE
        while not (found := true()):
            assert time.monotonic() < end, self.logs()
            time.sleep(0.1)
        return found

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.log")))

    def job(self, comment: str) -> Job:
        """The running job with this comment; the plugin's comments hold rule and wildcards."""
        listed = self.ask("squeue", "--noheader", "--states=running", "--format=%k|%i|%N").splitlines()
        (found,) = (line.split("|")[1:] for line in listed if line.split("|")[0] == comment)
        return Job(*found)

    def crash(self, node: str) -> None:
        """Kill a node's daemon and all that it has started, as the loss of the machine would."""
        daemon = self.daemons.pop(node)
        jobs = self.ask("squeue", "--noheader", "--nodelist", node, "--format=%i").split()
        daemon.kill()
        daemon.wait()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is another user's
                command, variables = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes().split(b"\0")
                step = re.match(rb"slurmstepd: \[(\d+)\.", command)
                ours = f"SLURM_CONF={self.folder}/slurm.conf".encode() in variables
                if ours and any(
                    (step and step[1] == job.encode()) or f"SLURM_JOB_ID={job}".encode() in variables for job in jobs
                ):
                    os.kill(int(folder.name), signal.SIGKILL)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Munge, the controller and two nodes; all jobs and daemons end with the context."""
    if os.geteuid():
        pytest.skip("only root can run a Slurm")
    for package, program in (("munge", "munged"), ("slurm-wlm", "slurmctld")):
        installed(package, program)
    running = Cluster(folder)
    names = ("key-file", "socket", "pid-file", "log-file", "seed-file")
    files = {name: f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in names}
    files["pid-file"], files["log-file"] = f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log"
    try:
        running.start("munged", "munged", "--foreground", "--force", *files.values())
        running.until((folder / "munge.socket").exists)
        running.start("slurmctld", "slurmctld", "-D")
        for name in NODES:
            running.start_node(name)
        running.until(lambda: running.ask("sinfo", "--noheader", "--format=%D|%T") == f"{len(NODES)}|idle")
        yield running
    finally:
        if "slurmctld" in running.daemons:
            running.ask("scancel", "--user=root")
            end = time.monotonic() + 5
            while running.ask("squeue", "--noheader") and time.monotonic() < end:
                time.sleep(0.1)
        for daemon in reversed(running.daemons.values()):
            daemon.send_signal(signal.SIGTERM)
        for daemon in running.daemons.values():
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
