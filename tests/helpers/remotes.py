"""Hosts on this machine for `dvc push` and `dvc pull`: OpenSSH's server, and moto's S3. nginx is in serving.py."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from helpers.debian import installed
from helpers.serving import daemon

# The address in .dvc/config while the project has no host. Its port is no number, so that `dvc pull` prints it at once:
# for a host that does not answer, DVC only says that cache files are missing.
UNSET = "https://HOST:PORT/is not set: `dvc remote modify public url https://...` (docs/reruns.md)"
SSHD = """
ListenAddress 127.0.0.1:{port}
HostKey {work}/host
AuthorizedKeysFile {work}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Ssh:
    """A server that lets its own key in."""

    port: int
    key: Path


@contextmanager
def sshd(work: Path) -> Iterator[Ssh]:
    """An SSH server with a host key and a user key of its own, all in `work`."""
    program = installed("openssh-server", "sshd")
    work.mkdir(parents=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where systemd would make it
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / name)]
        subprocess.run(command, check=True)

    def server(port: int) -> list[str]:
        (work / "sshd_config").write_text(SSHD.format(work=work, port=port))
        return [program, "-D", "-f", str(work / "sshd_config"), "-E", str(work / "log")]

    with daemon(server, work / "log", b"SSH-") as port:
        yield Ssh(port, work / "user")


@contextmanager
def s3(bucket: str) -> Iterator[str]:
    """The address of moto's S3 server, with an empty bucket; objects are in this process's memory."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        requests.put(f"{url}/{bucket}", timeout=10).raise_for_status()
        yield url
    finally:
        server.stop()
