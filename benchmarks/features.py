"""Snippets per second of the network in fp32 and bf16, side by side, and how far the features of the two agree.

python benchmarks/features.py VIDEO [--crop 224] [--clips 4] [--repeats 3]
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np

from um.features.network import Network
from um.params import Features
from um.video.decode import centre, snippets

WEIGHTS = Path("data/weights/i3d-inception-rgb.safetensors")


def main() -> None:
    """Time both networks on the same snippets of a video."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    short_side = round(chosen.crop * 256 / 224)
    decoded = itertools.islice(snippets(chosen.video, 25.0, 16, short_side), chosen.clips)
    batch = np.stack([centre(clip, chosen.crop) for clip in decoded])
    features, speed = {}, {}
    for precision in ("fp32", "bf16"):
        network = Network(Features(precision=precision), WEIGHTS)
        network(batch[:1])  # the first call chooses kernels
        started = time.perf_counter()
        for _ in range(chosen.repeats):
            features[precision] = network(batch)
        speed[precision] = len(batch) * chosen.repeats / (time.perf_counter() - started)
    a, b = features["fp32"], features["bf16"]
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    print(f"{network.device}, crop {chosen.crop}, {len(batch)} snippets a batch")
    print(f"fp32 {speed['fp32']:.2f} snippets/s, bf16 {speed['bf16']:.3f}: {speed['bf16'] / speed['fp32']:.3f} x")
    print(f"cosine of bf16 to fp32 per snippet: mean {cosine.mean():.5f}, min {cosine.min():.5f}")


if __name__ == "__main__":
    main()
