"""Start `um`, `snakemake` and `dvc` in milliseconds: a server that has imported them forks a child for every call.

Nothing is replaced: the child runs the program's own `main` with the caller's arguments, folder, environment and
streams. A clone whose src/um is not that of the server gets the installed program, as does every caller that finds no
server. Clients are scripts in a folder that comes first on PATH; a client that dies takes its child with it.
"""

import atexit
import contextlib
import gc
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

FOLDER = "UM_TEST_TOOLS"  # the variable that holds the folder of the clients
PROGRAMS = {"um": "um.cli", "snakemake": "snakemake.cli", "dvc": "dvc.cli"}
IMPORTED = ("matplotlib.pyplot", "pandas", "torch", "av", "cv2", "h5py", "dvc.repo", "dvc.commands.status")
LENGTH = 8  # bytes of a message's length
CLIENT = """#!{python} -IS
import os, sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket
NAME = {name!r}
try:
    server = socket(AF_UNIX, SOCK_STREAM)
    server.connect({address!r})
except OSError:
    os.execv({program!r}, [{program!r}, *sys.argv[1:]])
import json, signal
message = json.dumps([NAME, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
descriptors = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
server.sendmsg([len(message).to_bytes({length}, "big")], [(SOL_SOCKET, SCM_RIGHTS, descriptors)])
while message:
    message = message[server.send(message):]
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: server.send(bytes([number])))
status = b""
while len(status) < 4:
    part = server.recv(4 - len(status))
    if not part:
        sys.exit("the test tools' server is gone")
    status += part
code = int.from_bytes(status, "big", signed=True)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Write the clients to a folder and start their server, which ends with this process."""
    address, real = str(folder / "socket"), Path(sys.executable).parent
    for name in PROGRAMS:
        program = str(real / name)
        text = CLIENT.format(python=sys.executable, name=name, address=address, program=program, length=LENGTH)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "python").chmod(0o755)
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join(map(str, (tests.parent / "src", tests)))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-m", "helpers.forkserver", address]
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere)


def serve(address: str) -> None:
    """Fork a child per connection, until the process that started this one is gone."""
    mains = {name: import_module(module).main for name, module in PROGRAMS.items()}
    source = Path(import_module("um").__file__ or "").parent
    inner = [".".join(path.relative_to(source.parent).with_suffix("").parts) for path in source.rglob("*.py")]
    for module in (*IMPORTED, *sorted(name for name in inner if ".configs." not in name)):
        import_module(module)
    contents = read(source)
    gc.collect()
    gc.freeze()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{address}.new")
    listening.listen(100)
    Path(f"{address}.new").rename(address)  # clients find it when it listens
    events = selectors.DefaultSelector()
    events.register(listening, selectors.EVENT_READ, None)
    events.register(0, selectors.EVENT_READ, None)
    while True:
        for key, _ in events.select():
            if key.fileobj == 0:
                return
            if key.fileobj is not listening:
                key.data()
                continue
            connection = listening.accept()[0]
            connection.settimeout(10)
            try:
                request, streams = receive(connection)
            except (OSError, ValueError):
                connection.close()
                continue
            pid = os.fork()
            if pid == 0:
                child(mains, contents, streams, *request)
            for stream in streams:
                os.close(stream)
            watch(events, connection, pid)


def receive(connection: socket.socket) -> tuple[list, list[int]]:
    """Name, arguments, folder and environment of a call, and its three streams."""
    head, streams, _, _ = socket.recv_fds(connection, LENGTH, 3)
    message = b""
    while len(message) < int.from_bytes(head, "big"):
        if not (part := connection.recv(1 << 20)):
            raise ValueError("a client that is gone")
        message += part
    return json.loads(message), streams


def watch(events: selectors.BaseSelector, connection: socket.socket, pid: int) -> None:
    """Tell the client how its child ended; pass on its signals; kill the child of a client that is gone."""
    ended = os.pidfd_open(pid)

    def finish() -> None:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(OSError):
            connection.sendall(status.to_bytes(4, "big", signed=True))
        with contextlib.suppress(KeyError):
            events.unregister(connection)
        events.unregister(ended)
        connection.close()
        os.close(ended)

    def pass_on() -> None:
        with contextlib.suppress(OSError):
            if number := connection.recv(1):
                os.kill(pid, number[0])
                return
        os.kill(pid, signal.SIGKILL)
        events.unregister(connection)

    events.register(ended, selectors.EVENT_READ, finish)
    events.register(connection, selectors.EVENT_READ, pass_on)


def child(
    mains: dict[str, Callable[[], object]],
    contents: dict[str, bytes],
    streams: list[int],
    name: str,
    words: list[str],
    folder: str,
    environment: dict[str, str],
) -> None:
    """Become the program that was asked for; does not return."""
    code: object = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.closerange(3, max(streams) + 100)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        program = Path(sys.executable).with_name(name)
        path = environment.get("PYTHONPATH", "").split(os.pathsep)[0]
        if path and read(Path(path) / "um") != contents:
            os.execv(program, [str(program), *words])  # noqa: S606
        sys.executable = str(Path(environment[FOLDER]) / "python")  # programs start others from beside it
        sys.argv = [str(program), *words]
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        random.seed()
        try:
            code = mains[name]()
        except SystemExit as ended:
            code = ended.code
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        if isinstance(code, str):
            print(code, file=sys.stderr)
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    except BaseException:
        traceback.print_exc()
    os._exit(code if isinstance(code, int) else int(code is not None))


def read(source: Path) -> dict[str, bytes]:
    """The files of a package, by path."""
    return {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*.py")}


if __name__ == "__main__":
    serve(sys.argv[1])
