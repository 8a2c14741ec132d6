"""TV-L1 flow in PyTorch against OpenCV's: pairs per second of both, and how far they agree, per video.

python benchmarks/flow.py VIDEO... [--snippets 2] [--width 340] [--height 256] [--threads 1] [--pairs 16] [--self]

Snippets of 16 frames are spread evenly over each video; the flow of a snippet is that of its 16 pairs (17 frames).
Agreement in pixels is the length of the difference where the first picture has texture: a centred gradient of at
least TEXTURE grey levels per pixel. The cosine is that of whole snippets as the network sees them: bytes, less 127.5,
over 127.5. "s" marks still snippets: nearly all of the flow is below half a byte, and its sign decides the bytes. With
--self, the cosine of OpenCV to itself follows each, the pictures changed by 2e-5 grey levels: none can ask for more.
Speed is of the CPU, both backends in turn on the same pairs and threads; and of the GPU where there is one.
"""

import argparse
import os
import time
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from um.video.flow import Backend, flow, grey, quantise

TEXTURE = 5.0
STILL = 0.95
"""Share of the pixels that move less than half a byte, from which on a snippet is still."""


def pictures(path: Path, width: int, height: int) -> Tensor:
    """All frames of a video: (F, H, W) uint8 grey."""
    with av.open(path) as container:
        frames = (frame.reformat(width, height, "rgb24").to_ndarray() for frame in container.decode(video=0))
        return torch.stack([grey(torch.from_numpy(frame)[None])[0] for frame in frames])


def textured(first_NHW: Tensor) -> Tensor:
    """Where the first pictures have a gradient: (N, H, W) bool."""
    down, right = torch.gradient(first_NHW.float(), dim=(1, 2))
    return torch.hypot(down, right) >= TEXTURE


def normalised(flow_N2HW: Tensor) -> Tensor:
    """The network's input, end to end."""
    return ((quantise(flow_N2HW).double() - 127.5) / 127.5).flatten()


def timed(first_NHW: Tensor, second_NHW: Tensor, backend: Backend) -> tuple[Tensor, float]:
    """The flow and the seconds it took."""
    started = time.perf_counter()
    result = flow(first_NHW, second_NHW, backend).cpu()  # the copy waits for the GPU
    return result, time.perf_counter() - started


def nudged(first_NHW: Tensor, second_NHW: Tensor) -> Tensor:
    """OpenCV's flow of pictures with noise of 2e-5 grey levels, which is the size of rounding errors."""
    rng, solver = np.random.default_rng(0), cv2.optflow.DualTVL1OpticalFlow.create()
    pairs_N2HW = torch.stack((first_NHW, second_NHW), 1).numpy() / 255  # of floats, OpenCV takes 1 for white
    noisy_N2HW = (pairs_N2HW + rng.normal(0, 2e-5 / 255, pairs_N2HW.shape)).astype(np.float32)
    return torch.from_numpy(np.stack([solver.calc(a, b, None) for a, b in noisy_N2HW])).permute(0, 3, 1, 2)


def cosine(a_N2HW: Tensor, b_N2HW: Tensor) -> float:
    """Of two flows of a snippet, as the network sees them."""
    a, b = normalised(a_N2HW), normalised(b_N2HW)
    return (a @ b / a.norm() / b.norm()).item()


def main() -> None:
    """Compare the backends on real videos."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--snippets", type=int, default=2, help="per video")
    parser.add_argument("--width", type=int, default=340)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=16, help="per snippet; fewer for a quick look")
    parser.add_argument("--self", action="store_true", help="compare OpenCV with itself as well")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    cv2.setNumThreads(chosen.threads)
    load = os.getloadavg()[0]
    print(f"{chosen.width}x{chosen.height}, CPU, {chosen.threads} threads, OpenCV {cv2.__version__}, load {load:.1f}")
    print("video                     pairs  px/frame  median     p95  textured  speed  cosine per snippet (s: still)")
    seconds, pairs = {"opencv": 0.0, "torch": 0.0, "cuda": 0.0}, 0
    flow(torch.zeros(1, 64, 64, dtype=torch.uint8), torch.zeros(1, 64, 64, dtype=torch.uint8))  # the first call loads
    for path in chosen.videos:
        frames = pictures(path, chosen.width, chosen.height)
        starts = np.linspace(0, len(frames) - chosen.pairs - 1, chosen.snippets + 2)[1:-1].astype(int)
        differences, motion, shares, cosines, before = [], [], [], [], dict(seconds)
        for start in starts:
            first, second = frames[start : start + chosen.pairs], frames[start + 1 : start + chosen.pairs + 1]
            theirs, taken = timed(first, second, "opencv")
            seconds["opencv"] += taken
            ours, taken = timed(first, second, "torch")
            seconds["torch"] += taken
            if torch.cuda.is_available():
                seconds["cuda"] += timed(first.cuda(), second.cuda(), "torch")[1]
            pairs += len(first)
            mask = textured(first)
            differences.append((ours - theirs).norm(dim=1)[mask].numpy())
            shares.append(mask.float().mean().item())
            motion.append(theirs.norm(dim=1).mean().item())
            still = (theirs.abs().amax(1) < 20 / 255).float().mean().item() >= STILL
            itself = f"/{cosine(nudged(first, second), theirs):.4f}" if chosen.self else ""
            cosines.append(f"{cosine(ours, theirs):.4f}{itself}{'s' if still else ''}")
        error = np.concatenate(differences)
        faster = (seconds["opencv"] - before["opencv"]) / (seconds["torch"] - before["torch"])
        print(
            f"{path.name[:24]:24} {chosen.pairs * len(starts):6} {np.mean(motion):9.3f} {np.median(error):7.4f}"
            f" {np.percentile(error, 95):7.4f} {np.mean(shares):9.2f} {faster:6.2f}  {' '.join(cosines)}",
            flush=True,
        )
    ours, theirs = pairs / seconds["torch"], pairs / seconds["opencv"]
    print(f"torch {ours:.3f} pairs/s, OpenCV {theirs:.3f}: {ours / theirs:.2f} x; load now {os.getloadavg()[0]:.1f}")
    if seconds["cuda"]:
        on_gpu = pairs / seconds["cuda"]
        print(f"{torch.cuda.get_device_name()}: {on_gpu:.1f} pairs/s: {on_gpu / theirs:.1f} x OpenCV on the CPU")


if __name__ == "__main__":
    main()
