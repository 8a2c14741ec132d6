"""A server that has imported the large libraries once; each `um`, `snakemake`, `dvc` and xdist worker forks from it.

Importing PyTorch, Snakemake or DVC costs more than most of what the tests ask of them. Each child runs the real program
with its caller's arguments, folder, environment and streams. It imports `um` from its caller's PYTHONPATH, unless the
sources there are those that the server has imported. Launchers, put first on PATH, stand for the three programs, and
one for a Python with a script; they execute the real one if the server is gone or the environment holds a variable
that libraries read when they are imported.
"""

import atexit
import contextlib
import gc
import importlib
import marshal
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
import weakref
from functools import cache
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

LIBRARIES = """
aiohttp_retry argparse_dataclass av.subtitles.stream configobj cv2 dulwich.ignore dulwich.index dulwich.worktree
dvc._debug dvc.cachemgr dvc.cli dvc.cli.parser dvc.data_cloud dvc.dirs dvc.lock dvc.render.match dvc.repo
dvc.repo.artifacts dvc.repo.datasets dvc.repo.experiments dvc.repo.graph dvc.repo.index dvc.repo.metrics.show
dvc.repo.open_repo dvc.repo.params dvc.repo.plots dvc.repo.stage dvc.repo.trie dvc.repo.worktree dvc.rwlock
dvc.ui.table dvc.utils.strictyaml dvc_data.hashfile.db.index dvc_data.hashfile.db.local dvc_data.hashfile.status
dvc_data.index.fetch dvc_data.index.push dvc_http.retry dvc_http.spec filecmp fsspec.implementations.http
fsspec.implementations.memory gdown h5py jinja2 matplotlib.backends.backend_svg matplotlib.figure mmaction.models
networkx numpy pandas pydantic.root_model pygit2 requests rich.progress ruamel.yaml safetensors.torch scipy.optimize
smart_open snakemake.cli snakemake.profiles snakemake.report.html_reporter snakemake.storage statistics torch._dynamo
typer yaml yt_dlp
""".split()  # noqa: SIM905
SCRIPT = "script"  # `script -c CODE` runs what `python -c CODE` would
SOURCES = Path(__file__).parents[2] / "src"
REGISTERED = "um.features.inception"  # with mmengine, which takes a name once
PROGRAMS = {"um": "um.cli", "snakemake": "snakemake.cli", "dvc": "dvc.cli", SCRIPT: SCRIPT}
FOLDER, PARENT = "UM_TEST_SERVER", "UM_TEST_PROCESS"  # folder and first process of a test run, set by conftest.py
IMPORTED = ("CUDA", "HOME", "LANG", "LC_", "LD_", "MALLOC_", "MKL_", "MPL", "OMP_", "OPEN", "PYTHON", "TORCH", "XDG_")
OWN = ("CUDA_VISIBLE_DEVICES", "PYTHONPATH", "TORCHINDUCTOR_CACHE_DIR")  # read later; obeyed here; set by PyTorch
LAUNCHER = """#!{python} -ISE
import _signal, _socket, marshal, posix, sys

name, real = {name!r}, {real!r}
text = lambda word: word.decode(errors="surrogateescape")
environment = {{text(k): text(v) for k, v in posix.environ.items()}}
read = {{k: v for k, v in environment.items() if k.startswith({imported!r}) and "/cv2/" not in v}}
read = {{k: v for k, v in read.items() if k not in {own!r} and not k.endswith("_NUM_THREADS")}}
client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
try:
    if read != {read!r}:
        raise OSError
    mask = posix.umask(0)
    posix.umask(mask)
    client.connect({socket!r})
    request = marshal.dumps((name, sys.argv[1:], posix.getcwd(), environment, mask))
    streams = b"".join(number.to_bytes(4, "little") for number in (0, 1, 2))
    client.sendmsg([len(request).to_bytes(8, "little")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
except OSError:
    posix.execv(real, [real, *sys.argv[1:]])
for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
    _signal.signal(number, lambda number, frame: client.send(bytes([number])))
client.sendall(request)
answer = client.recv(4)
status = int.from_bytes(answer, "little") if answer else 9
if posix.WIFSIGNALED(status):
    number = posix.WTERMSIG(status)
    if number != _signal.SIGKILL:
        _signal.signal(number, _signal.SIG_DFL)
    posix.kill(posix.getpid(), number)
posix._exit(posix.WEXITSTATUS(status))
"""


def read_at_import(environment: dict[str, str]) -> dict[str, str]:
    """What libraries may read when they are imported, but for two that do not count.

    Children have one thread, whatever Snakemake allows a job: two would wait for each other on a machine of two cores.
    What OpenCV sets when it is imported is there or not by what else a process of the tests has run.
    """
    read = {k: v for k, v in environment.items() if k.startswith(IMPORTED) and "/cv2/" not in v}
    return {k: v for k, v in read.items() if k not in OWN and not k.endswith("_NUM_THREADS")}


def launchers() -> str:
    """The folder of launchers; the first call of a test run starts the server."""
    folder = Path(os.environ[FOLDER])
    with FileLock(folder / "starting.lock"):
        if not (folder / "bin").exists():
            environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, str(folder), os.environ[PARENT]]
            server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
            while not (folder / "bin").exists():
                assert server.poll() is None, "the server has ended"
                time.sleep(0.05)
    return str(folder / "bin")


def write_launchers(folder: Path, read: dict[str, str]) -> None:
    """Write the launchers, for callers whose environment gives libraries the same to read."""
    made = folder / "making"
    made.mkdir()
    inner = f'[ "$1 $2" = "-m snakemake" ] && shift 2 && exec {folder}/bin/snakemake "$@"'  # a job on a cluster
    texts = {"python": f'#!/bin/sh\n{inner}\nexec {sys.executable} "$@"\n'}
    for name in PROGRAMS:
        texts[name] = LAUNCHER.format(
            python=sys.executable,
            name=name,
            real=sys.executable if name == SCRIPT else str(Path(sys.executable).with_name(name)),
            imported=IMPORTED,
            own=OWN,
            read=read,
            socket=str(folder / "socket"),
        )
    for name, text in texts.items():
        (made / name).write_text(text)
        (made / name).chmod(0o755)
    made.rename(folder / "bin")


class Server:
    """Forks a child for each client, passes signals on to it, and its end back; kills it if the client dies."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(folder / "socket"))
        self.listening.listen(64)
        self.children: dict[int, socket.socket] = {}  # by process
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listening, selectors.EVENT_READ)
        self.ended, waker = os.pipe2(os.O_NONBLOCK)
        self.selector.register(self.ended, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it starts with `&`

    def serve(self, parent: int) -> str:
        """Serve until the process that runs the tests has ended; in a child, return the module to run."""
        while Path(f"/proc/{parent}/exe").exists():  # a zombie has none
            for key, _ in self.selector.select(timeout=1):
                if key.fileobj is self.listening:
                    if module := self.fork(self.listening.accept()[0]):
                        return module
                elif key.fileobj == self.ended:
                    os.read(self.ended, 4096)
                    self.reap()
                elif key.data in self.children:  # it may have been reaped meanwhile
                    self.hear(key.data)
        for process in self.children:
            os.killpg(process, signal.SIGKILL)
        os._exit(0)

    def fork(self, client: socket.socket) -> str:
        """Start the child of a client; in the child, the module to run."""
        header, streams, _, _ = socket.recv_fds(client, 8, 3)
        request, size = b"", int.from_bytes(header, "little")
        while len(request) < size and (part := client.recv(size - len(request))):
            request += part
        whole = 0 < size == len(request)  # else the client was killed while it sent this
        if (process := os.fork() if whole else None) != 0:
            for stream in streams:
                os.close(stream)
            if process is None:
                client.close()
                return ""
            self.children[process] = client
            self.selector.register(client, selectors.EVENT_READ, process)
            return ""
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for held in (self.listening, client, self.selector, *self.children.values()):
            held.close()
        return take_over(marshal.loads(request), streams, self.bin)  # noqa: S302 (by our own launcher)

    def reap(self) -> None:
        """Tell clients how their children have ended."""
        while self.children:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            client = self.children.pop(process)
            if client in self.selector.get_map():
                self.selector.unregister(client)
            with contextlib.suppress(OSError):  # it has died
                client.sendall(status.to_bytes(4, "little"))
            client.close()

    def hear(self, process: int) -> None:
        """Pass on the signals that a client got; without the client, its child has to end, too."""
        with contextlib.suppress(ConnectionError):
            if numbers := self.children[process].recv(16):
                for number in numbers:
                    os.kill(process, number)
                return
        self.selector.unregister(self.children[process])
        os.killpg(process, signal.SIGKILL)


def take_over(request: tuple[str, list[str], str, dict[str, str], int], streams: list[int], folder: Path) -> str:
    """Make this process look like one that its caller has started; the module whose `main` it is to run."""
    name, words, cwd, environment, mask = request
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    for stream in set(streams) - {0, 1, 2}:
        os.close(stream)
    os.chdir(cwd)
    os.umask(mask)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    sys.argv = [str(folder / name), *words]
    if name != SCRIPT:
        sys.executable = str(folder / "python")  # beside which `um record` looks for the other programs
    sys.path[0:0] = folders = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    theirs = next((Path(path) for path in folders if Path(path, "um").is_dir()), SOURCES)
    if theirs != SOURCES and digest(theirs) != digest(SOURCES):
        for module in [module for module in sys.modules if module.partition(".")[0] == "um"]:
            del sys.modules[module]
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115 (for good, as the next two)
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    return PROGRAMS[name]


def run(module: str) -> None:
    """Run a program and end as Python would."""
    code: object = 1
    try:
        if module == SCRIPT:
            at = sys.argv.index("-c")  # xdist says `-u`, too
            code, sys.argv = sys.argv[at + 1], ["-c", *sys.argv[at + 2 :]]
            exec(code, {"__name__": "__main__"})  # noqa: S102 (of our own tests)
            code = 0
        else:
            code = importlib.import_module(module).main()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF if isinstance(code, int) else int(code is not None))


def remember_yaml(folder: Path) -> None:
    """Have DVC parse equal texts once: each command parses params.yaml for every stage, and dvc.lock, in seconds."""
    from dvc.utils import strictyaml
    from dvc.utils.serialize import _yaml

    parse = _yaml.parse_yaml
    folder.mkdir()

    def remembered(text: str, path: str, typ: str = "safe") -> object:
        """Content of a YAML file, from a file named by its text if another process has parsed that."""
        if typ != "safe":
            return parse(text, path, typ)
        parsed = folder / sha256(text.encode()).hexdigest()
        if not parsed.exists():
            value = parse(text, path)
            writing = folder / str(os.getpid())
            writing.write_bytes(pickle.dumps(value))
            writing.rename(parsed)
        return pickle.loads(parsed.read_bytes())  # noqa: S301 (our own)

    _yaml.parse_yaml = strictyaml.parse_yaml = remembered


def modules() -> list[str]:
    """Names of all modules of `um` that need not be alone in a process."""
    paths = (path.relative_to(SOURCES).with_suffix("") for path in (SOURCES / "um").rglob("*.py"))
    names = {".".join(path.parts).removesuffix(".__init__") for path in paths if "configs" not in path.parts}
    return sorted(names - {REGISTERED})


@cache
def digest(folder: Path) -> str:
    """sha256 over `um` in a folder of sources."""
    files = (path for path in sorted((folder / "um").rglob("*")) if path.is_file() and path.suffix != ".pyc")
    return sha256(b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)).hexdigest()


def forget_operators() -> None:
    """Let PyTorch leave its operators as they are at the end of a process: taking them apart costs 0.1 seconds."""
    for ending in list(weakref.finalize._registry):
        if ending.peek()[1].__module__ == "torch.library":
            ending.atexit = False


def main() -> None:
    """Import the libraries, then serve; a child leaves the loop to run its program."""
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    sys.path.pop(0)  # the folder of this file
    read = read_at_import(dict(os.environ))  # OpenCV changes it
    with warnings.catch_warnings(action="ignore"):
        for name in LIBRARIES + modules():
            importlib.import_module(name)
    remember_yaml(folder / "yaml")
    forget_operators()
    sys.modules["snakemake.cli"].get_argument_parser()  # looks for plugins among all packages, and keeps them
    assert REGISTERED not in sys.modules
    digest(SOURCES)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "threads do not outlive a fork"
    gc.freeze()  # pages stay shared with the children
    server = Server(folder)
    write_launchers(folder, read)
    run(server.serve(parent))


if __name__ == "__main__":
    main()
