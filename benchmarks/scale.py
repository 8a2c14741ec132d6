"""What grows with the number of videos: plans, records, storage, hours. The numbers of docs/scale.md.

python benchmarks/scale.py ledger [--videos 20000 100000] [--project .]    times and memory, on a copy of a built demo
python benchmarks/scale.py paper                        arithmetic, from measured rates and the lengths of the datasets

`ledger` adds small files to the demo's videos and features, one of each a video. DVC and Snakemake pay for a file by
its name and hash; what they pay for its bytes is the reading, which `paper` has.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from torch.utils.flop_counter import FlopCounterMode

SHAPES = {"videos": "train/{}.mp4", "features": "train/rgb/{}.npy"}
HOURS = {"THUMOS14": 24.3, "ActivityNet 1.3": 650.0, "100 x ActivityNet": 65_000.0}
VIDEOS = {"THUMOS14": 413, "ActivityNet 1.3": 19_994, "100 x ActivityNet": 1_999_400}
FPS, WINDOW, WIDTH = 25, 16, 1024
CPU_RATE = 6.8 / 2  # snippets a second and core: docs/results.md, two minutes of video on two cores
FLOW_RATE = 2.1  # TV-L1 pairs a second and core, 340 x 256: docs/results.md
GPU_PEAK = 67e12  # FLOP/s of an H200 in fp32, data sheet: real hours are more
DVC_KB = 4.8  # of memory a file: `ledger` with 200,000 files
MEGABITS = 1.5  # a second of compressed video; an assumption


def timed(root: Path, *command: str) -> tuple[float, float]:
    """Seconds of a command that has to succeed, and the memory of its largest process in MB."""
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "DVC_NO_ANALYTICS": "1"}
    job = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    started = time.perf_counter()
    said = job.stderr.read() if job.stderr else b""
    _, status, usage = os.wait4(job.pid, 0)
    job.returncode = os.waitstatus_to_exitcode(status)
    if job.returncode:
        raise SystemExit(f"{' '.join(command)}: {said.decode()[-500:]}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def copy_of_demo(project: Path, root: Path) -> None:
    """The checkout and what it has built, with a cache and a ledger of its own."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, listed):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project / name, root / name, follow_symlinks=False)
    for name in ("data/demo", "data/weights", "models/demo", "models/demo-official", "results", "tables", ".snakemake"):
        if not (project / name).exists():
            raise SystemExit(f"{project / name}: found nothing; `make run` builds the demo first")
        shutil.copytree(project / name, root / name, dirs_exist_ok=True, symlinks=True)
    (root / "dvc.lock").unlink()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)


def add_videos(root: Path, count: int) -> None:
    """Give the demo `count` more videos and features, of a few bytes each, and list them."""
    for kind, shape in SHAPES.items():
        folder = root / "data/demo" / kind
        index = json.loads((folder / "index.json").read_text())
        for number in range(count):
            name, content = shape.format(f"more_{number:06d}"), f"{kind} {number}".encode()
            (folder / name).write_bytes(content)
            index["files"][name] = {"sha256": hashlib.sha256(content).hexdigest()}
        index["files"] = dict(sorted(index["files"].items()))
        (folder / "index.json").write_text(json.dumps(index))


def ledger(project: Path, counts: list[int]) -> None:
    """Plans and records with that many videos."""
    print(f"{'videos':>8} {'files':>8}  {'command':34} {'seconds':>8} {'MB':>7}")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            copy_of_demo(project, root)
            add_videos(root, count)
            timed(root, "snakemake", "--touch", "--forceall", "--cores", "1")
            for name, command in {
                "snakemake --dry-run": ["snakemake", "--dry-run"],
                "um record, the first": ["um", "record"],
                "um record, nothing new": ["um", "record"],
                "snakemake --dry-run, recorded": ["snakemake", "--dry-run"],
                "dvc status": ["dvc", "status"],
                "dvc commit --force": ["dvc", "commit", "--force"],
            }.items():
                seconds, megabytes = timed(root, *command)
                print(f"{count:8,} {2 * count:8,}  {name:34} {seconds:8.1f} {megabytes:7,.0f}", flush=True)


def flop_of_snippet() -> float:
    """Operations of Inception-I3D for a snippet of 16 x 224 x 224, a multiplication and an addition counted as two."""
    import torch

    from um.features.backbones import build

    network = build("i3d-inception", None).backbone
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, WINDOW, 224, 224))
    return float(counter.get_total_flops())


def paper() -> None:
    """Snippets, hours and storage of the benchmarks, and of 100 times the larger."""
    flop = flop_of_snippet()
    print(f"Inception-I3D: {flop / 1e9:.1f} GFLOP a snippet of {WINDOW} x 224 x 224 ({flop / 2e9:.1f} G multiply-adds)")
    print(f"{'':18} {'hours':>7} {'snippets':>12} {'core-h rgb':>11} {'core-h flow':>12} {'GPU-h, min':>10} "
          f"{'features GB':>12} {'videos GB':>10} {'files':>10} {'DVC MB':>7}")  # fmt: skip
    for name, hours in HOURS.items():
        snippets = hours * 3600 * FPS / WINDOW
        print(
            f"{name:18} {hours:7,.0f} {snippets:12,.0f} {snippets / CPU_RATE / 3600:11,.0f} "
            f"{hours * FPS / FLOW_RATE:12,.0f} {snippets * flop / GPU_PEAK / 3600:10,.1f} "
            f"{snippets * WIDTH * 4 / 1e9:12,.1f} {hours * 3600 * MEGABITS / 8 / 1000:10,.0f} "
            f"{2 * VIDEOS[name]:10,} {2 * VIDEOS[name] * DVC_KB / 1000:7,.0f}"
        )


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("ledger", "paper"))
    parser.add_argument("--videos", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--project", type=Path, default=Path(), help="a checkout with the built demo")
    chosen = parser.parse_args()
    if chosen.part == "paper":
        return paper()
    return ledger(chosen.project, chosen.videos)


if __name__ == "__main__":
    main()
