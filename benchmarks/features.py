"""Feature extraction: its speed, where the time goes, and how it compares with mmaction2's own on the same video.

python benchmarks/features.py VIDEO [--parts pipeline mmaction memory precision compile backbones]
                              [--crop 224] [--clips 4]

pipeline   snippets/s of the whole extraction and of the network alone, and what each part costs by itself
mmaction   snippets/s beside mmaction2's way over a long video: its transforms, its recogniser as it builds it
memory     peak memory of both on --minutes of video (VIDEO's packets, over and over) above that with weights loaded
precision  snippets/s in fp32 and bf16, and how far the features of the two agree
compile    snippets/s with torch.compile, the seconds it takes to compile, and how far the features agree
backbones  a table of all shipped backbones with random weights: input, width, checkpoint, whether they build and load
           a checkpoint in mmaction2's form, snippets/s of the network alone, and its seconds of CPU time per snippet,
           which other work on the machine hardly changes; --backbones chooses some

mmaction2's way is that of tools/misc/clip_feature_extraction.py --long-video-mode: all clips of a video are one
sample and go through the network at once. "--views N" lets its `max_testing_views` send N at a time. It does not
resample, so give it a video at 25 fps. Speeds are medians over --repeats, the competitors in turn, each in a process
of its own; the load average stands beside them, and above the number of threads it means that others disturbed.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from um.params import Features

WEIGHTS = Path("data/weights/i3d-inception-rgb.safetensors")
PARTS = ("pipeline", "mmaction", "memory", "precision", "compile", "backbones")
GIB = 2**30


class Measured(NamedTuple):
    """What a process has done."""

    rows: np.ndarray
    seconds: float
    loaded: float  # bytes with the weights loaded
    peak: float  # bytes


def main() -> None:
    """Measure the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:3])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--clips", type=int, default=4, help="snippets a batch")
    parser.add_argument("--streams", default="rgb", help="rgb, flow or rgb,flow, for the pipeline")
    parser.add_argument("--seconds", type=float, default=20, help="of video for the speeds")
    parser.add_argument("--minutes", type=float, default=10, help="of video for our memory")
    parser.add_argument("--their-minutes", type=float, default=None, help="for mmaction2's, if not the same")
    parser.add_argument(
        "--views", type=int, default=None, help="mmaction2's max_testing_views; all at once if not given"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backbones", nargs="+", help="for that part; all if not given")
    chosen = parser.parse_args()
    settings = Features(
        precision="fp32",
        crop=chosen.crop,
        short_side=round(chosen.crop * 256 / 224),
        clips=chosen.clips,
        streams=chosen.streams,
    )
    parts: dict[str, Callable[..., None]] = {
        "pipeline": pipeline, "mmaction": mmaction, "memory": memory, "precision": precision, "compile": compiled,
        "backbones": backbones,
    }  # fmt: skip
    print(f"{chosen.video.name}, crop {settings.crop}, {settings.clips} snippets a batch", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        short = repeated(chosen.video, chosen.seconds, Path(folder) / "short.mp4")
        for part in chosen.parts:
            alone(parts[part], short, settings, chosen)


# ---- parts


def pipeline(video: Path, settings: Features, chosen: argparse.Namespace) -> None:
    """The whole extraction, the network's ceiling, and each part by itself."""
    import torch

    from um.features.extract import _decoded, _motion, _run
    from um.features.network import Network
    from um.video.decode import snippets

    streams = settings.streams.split(",")
    weights = {"rgb": chosen.weights, "flow": None}  # random ones are as fast
    networks = {stream: Network(settings, weights[stream], stream=stream) for stream in streams}
    device = next(iter(networks.values())).device
    threads = torch.get_num_threads()
    synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    decoding, frames = timed(
        lambda: sum(1 for _ in snippets(video, settings.fps, settings.window, settings.short_side))
    )
    items = [item for _, item in _decoded("x", video, settings, str(device)) if isinstance(item, dict)]
    whole = next(snippets(video, settings.fps, settings.window, settings.short_side, after=1))
    motion = timed(lambda: _motion(whole, settings, str(device)))[0] if "flow" in streams else 0.0

    def batch() -> dict[str, Any]:
        made = {
            stream: network.inputs(np.stack([item[stream] for item in items[: settings.clips]]))
            for stream, network in networks.items()
        }
        synchronise()
        return made

    inputs = batch()
    batching, work, whole_run = [], [], []

    def forward() -> None:
        for stream, network in networks.items():
            network.forward(inputs[stream]).cpu()

    forward()  # the first call chooses kernels
    batches = max(2, round(len(items) / settings.clips))
    todo = {"x": (video, "")}
    for _ in range(chosen.repeats):
        work.append(timed(lambda: [forward() for _ in range(batches)])[0] / batches / settings.clips)
        batching.append(timed(batch)[0] / settings.clips)
        whole_run.append(timed(lambda: list(_run(todo, settings, networks, 0)))[0] / len(items))
    costs = {
        "decode and resize": decoding / frames,
        "flow": motion,
        "batching and transfer": statistics.median(batching),
        "network": statistics.median(work),
    }
    total, extraction = sum(costs.values()), statistics.median(whole_run)
    print(f"pipeline: {len(items)} snippets, {settings.streams}, {device}, {threads} threads{load()}")
    print(f"  extraction {1 / extraction:8.3f} snippets/s, with decoding ahead of the network")
    print(f"  ceiling    {1 / costs['network']:8.3f} snippets/s, the network alone on one and the same batch")
    print(f"  ratio      {100 * costs['network'] / extraction:8.1f} %")
    for name, seconds in costs.items():
        print(f"  {name:22} {1000 * seconds:8.1f} ms a snippet by itself, {100 * seconds / total:5.1f} %", flush=True)


def mmaction(video: Path, settings: Features, chosen: argparse.Namespace) -> None:
    """Both extractions in turn."""
    ours, theirs = [], []
    for _ in range(chosen.repeats):
        ours.append(alone(our_way, video, settings, chosen))
        theirs.append(alone(their_way, video, settings, chosen))
    a, b = (statistics.median(len(m.rows) / m.seconds for m in runs) for runs in (ours, theirs))
    n = min(len(ours[0].rows), len(theirs[0].rows))
    alike = cosine(ours[0].rows[:n], theirs[0].rows[:n])
    print(
        f"mmaction2: {len(ours[0].rows)} of our snippets, {len(theirs[0].rows)} of its clips, {views(chosen)}{load()}"
    )
    ratios = ", ".join(
        f"{len(x.rows) / x.seconds / (len(y.rows) / y.seconds):.2f}" for x, y in zip(ours, theirs, strict=True)
    )
    print(f"  ours {a:.3f} snippets/s, mmaction2 {b:.3f}: {a / b:.2f} x (each time: {ratios})")
    print(f"  cosine of the rows: mean {alike.mean():.4f}, min {alike.min():.4f}", flush=True)


def memory(_: Path, settings: Features, chosen: argparse.Namespace) -> None:
    """Peak memory of both on a long video, above that with weights loaded."""
    their_minutes = chosen.their_minutes or chosen.minutes
    with tempfile.TemporaryDirectory() as folder:
        runs = [(our_way, minutes) for minutes in (chosen.minutes / 10, chosen.minutes)]
        runs += [(their_way, minutes) for minutes in (their_minutes / 2, their_minutes)]
        print(f"memory above the loaded weights, {views(chosen)}{load()}")
        for way, minutes in runs:
            name = "ours" if way is our_way else "mmaction2"
            video = repeated(chosen.video, 60 * minutes, Path(folder) / f"{minutes}.mp4")
            try:
                measured = alone(way, video, settings, chosen)
            except MemoryError as error:
                print(f"  {name:9} {minutes:5.2f} minutes: does not fit ({error})", flush=True)
                continue
            more = (measured.peak - measured.loaded) / GIB
            print(
                f"  {name:9} {minutes:5.2f} minutes, {len(measured.rows)} snippets: {more:.2f} GiB above"
                f" {measured.loaded / GIB:.2f}, {len(measured.rows) / measured.seconds:.3f} snippets/s{load()}",
                flush=True,
            )


def precision(video: Path, settings: Features, chosen: argparse.Namespace) -> None:
    """The network in fp32 and bf16 on the same snippets."""
    from um.device import has_bf16
    from um.features.network import Network

    batch, features, speed = first_batch(video, settings), {}, {}
    for name in ("fp32", "bf16"):
        network = Network(settings.model_copy(update={"precision": name}), chosen.weights)
        network(batch[:1])
        seconds, features[name] = timed(lambda network=network: network(batch))
        speed[name] = len(batch) / seconds
    alike = cosine(features["fp32"], features["bf16"])
    units = "with" if has_bf16(network.device) else "without"
    print(f"precision: {network.device} {units} bf16 units{load()}")
    print(f"  fp32 {speed['fp32']:.2f} snippets/s, bf16 {speed['bf16']:.3f}: {speed['bf16'] / speed['fp32']:.3f} x")
    print(f"  cosine of bf16 to fp32 per snippet: mean {alike.mean():.5f}, min {alike.min():.5f}", flush=True)


def compiled(video: Path, settings: Features, chosen: argparse.Namespace) -> None:
    """The network as it is and through torch.compile with frozen weights, in turn on the same batch."""
    import torch
    import torch._inductor.config

    from um.features.network import Network

    torch._inductor.config.freezing = True
    plain, faster = (Network(settings, chosen.weights) for _ in range(2))
    faster.recognizer.backbone.compile()
    inputs = plain.inputs(first_batch(video, settings))
    expected = plain.forward(inputs)
    compiling, found = timed(lambda: faster.forward(inputs).cpu())
    seconds: dict[str, list[float]] = {"as it is": [], "compiled": []}
    for _ in range(chosen.repeats):
        for name, network in (("as it is", plain), ("compiled", faster)):
            seconds[name].append(timed(lambda network=network: network.forward(inputs).cpu())[0])
    a, b = (statistics.median(len(inputs) / s for s in values) for values in seconds.values())
    difference = (found.cpu() - expected.cpu()).abs().max().item()
    print(f"compile: {plain.device}, {compiling:.0f} s to compile{load()}")
    print(f"  as it is {a:.3f} snippets/s, compiled {b:.3f}: {b / a:.2f} x; features differ by {difference:.1e}")


def backbones(_: Path, settings: Features, chosen: argparse.Namespace) -> None:
    """A row of a table per backbone, each in a process of its own."""
    from um.features.backbones import CONFIGS

    shipped = sorted(path.stem.removesuffix("-rgb") for path in CONFIGS.glob("*-rgb.py"))
    print(f"backbones: {os.cpu_count()} CPU cores{load()}")
    columns = [
        "`backbone`",
        "frames x stride",
        "size",
        "width",
        "checkpoint",
        "builds",
        "loads",
        "snippets/s",
        "CPU s/snippet",
    ]
    print(*(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns))), sep="\n")
    for backbone in chosen.backbones or shipped:
        own = settings.model_copy(update={"backbone": backbone, "short_side": 0, "crop": 0})
        print(alone(row_of, own, chosen), flush=True)


def row_of(settings: Features, chosen: argparse.Namespace) -> str:
    """Build a backbone with random weights, save them as mmaction2 publishes them, load them, and time the network."""
    import torch

    from um.features.backbones import build, clip_of, sized, source, width
    from um.features.network import Network

    settings = sized(settings)
    clip, published = clip_of(settings.backbone, "rgb", settings.window), source(settings.backbone)
    cells = [
        f"`{settings.backbone}`", f"{clip.frames} x {clip.stride}", f"{settings.short_side}, {settings.crop}",
        str(width(settings.backbone, "rgb")), f"…{published[-12:-4]}" if published else "–",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "random.pth"
        torch.save({"meta": {}, "state_dict": build(settings.backbone, None).state_dict()}, checkpoint)
        network = Network(settings, checkpoint)
    size = (settings.clips, clip.frames, settings.crop, settings.crop, 3)
    inputs = network.inputs(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    network.forward(inputs).cpu()  # the first call chooses kernels
    started = time.process_time()
    seconds = [timed(lambda: network.forward(inputs).cpu())[0] for _ in range(chosen.repeats)]
    busy = (time.process_time() - started) / chosen.repeats / settings.clips
    speed = f"{settings.clips / statistics.median(seconds):.2f}"
    return f"| {' | '.join([*cells, 'yes', 'yes', speed, f'{busy:.2f}'])} |"


# ---- the two ways, each in a process of its own


def our_way(video: Path, settings: Features, chosen: argparse.Namespace) -> Measured:
    """What `um extract` does once its networks are loaded."""
    from um.features.extract import _run
    from um.features.network import Network

    networks = {"rgb": Network(settings, chosen.weights)}
    loaded = status("VmRSS")  # before the first forward pass: what it frees is kept and would count as loaded
    networks["rgb"](first_batch(video, settings)[:1])
    seconds, results = timed(lambda: dict(_run({"x": (video, "")}, settings, networks, 0)))
    result = results["x"]
    if not isinstance(result, dict):
        raise result
    return Measured(result["rgb"], seconds, loaded, status("VmHWM"))


def their_way(video: Path, settings: Features, chosen: argparse.Namespace) -> Measured:
    """mmaction2's long-video extraction: a sample of all clips through its transforms, recogniser and FeatureHead."""
    import logging
    import resource

    import mmaction.datasets.transforms  # noqa: F401  registers the transforms
    import torch
    from mmaction.registry import MODELS
    from mmengine.dataset import Compose, pseudo_collate
    from mmengine.registry import DefaultScope

    from um.features.backbones import build

    logging.disable(logging.WARNING)  # it warns of its own file clients' names
    recognizer = build(settings.backbone, chosen.weights)
    window = settings.window
    with DefaultScope.overwrite_default_scope("mmaction"):
        recognizer.cls_head = MODELS.build({"type": "FeatureHead", "average_clips": None})
        transforms = Compose(
            [
                {"type": "DecordInit"},
                {"type": "UntrimmedSampleFrames", "clip_len": window, "clip_interval": window, "frame_interval": 1},
                {"type": "DecordDecode"},
                {"type": "Resize", "scale": (-1, settings.short_side)},
                {"type": "CenterCrop", "crop_size": settings.crop},
                {"type": "FormatShape", "input_format": "NCTHW"},
                {"type": "PackActionInputs"},
            ]
        )
    if chosen.views:
        recognizer.test_cfg = {"max_testing_views": chosen.views}
    if torch.cuda.is_available():
        recognizer.to("cuda")
    loaded = status("VmRSS")
    with torch.no_grad():  # as its Runner does; the first call chooses kernels
        recognizer.extract_feat(
            torch.zeros(1, 1, 3, window, settings.crop, settings.crop).to(next(recognizer.parameters()))
        )
    available = status("MemAvailable", "/proc/meminfo")
    limit = int(status("VmSize") + 0.8 * available)  # rather an error here than a process killed somewhere
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def run() -> np.ndarray:
        sample = {"filename": str(video), "label": -1, "start_index": 0, "modality": "RGB"}
        try:
            with torch.no_grad():
                return recognizer.test_step(pseudo_collate([transforms(sample)]))[0].cpu().numpy()  # of one sample
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or "not enough memory" in str(error) or "alloc" in str(error):
                raise MemoryError(f"more than {0.8 * available / GIB:.1f} GiB") from None
            raise

    seconds, rows = timed(run)
    return Measured(rows, seconds, loaded, status("VmHWM"))


# ---- helpers


def alone(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a process of its own, with its own memory and allocator."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result)."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def status(key: str, path: str = "/proc/self/status") -> float:
    """Bytes of a line of this process's status; ru_maxrss would count what the parent had when it forked."""
    lines = Path(path).read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def repeated(video: Path, seconds: float, path: Path) -> Path:
    """The video's packets over and over, not encoded anew, until `seconds` of pictures are there."""
    with av.open(video) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        start = min(packet.dts for packet in packets)
        length = max(packet.pts + (packet.duration or 1) for packet in packets) - min(packet.pts for packet in packets)
        with av.open(path, "w") as target:
            copy = target.add_stream_from_template(stream)
            for n in itertools.count():
                for packet in packets:
                    at = n * length + packet.dts - start
                    if at * stream.time_base >= seconds:
                        return path
                    fresh = av.Packet(bytes(packet))
                    fresh.stream, fresh.time_base, fresh.is_keyframe = copy, stream.time_base, packet.is_keyframe
                    fresh.dts, fresh.pts, fresh.duration = at, n * length + packet.pts - start, packet.duration
                    target.mux(fresh)
    return path


def first_batch(video: Path, settings: Features) -> np.ndarray:
    """(clips, T, crop, crop, 3) uint8."""
    from um.video.decode import centre, snippets

    decoded: Iterator[np.ndarray] = snippets(video, settings.fps, settings.window, settings.short_side)
    return np.stack([centre(clip, settings.crop) for clip in itertools.islice(decoded, settings.clips)])


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Per row."""
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def views(chosen: argparse.Namespace) -> str:
    """How mmaction2 feeds its network."""
    return f"max_testing_views {chosen.views}" if chosen.views else "all clips of the video at once"


def load() -> str:
    """The load average, which includes this benchmark's own threads."""
    return f", load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
