"""Videos and predictions drawn at random."""

import numpy as np
import pandas as pd

from um.datasets.annotations import Instance, Video
from um.evaluation.submission import COLUMNS


def make(seed: int, num_videos: int = 6, noise: float = 1.0) -> tuple[list[Video], pd.DataFrame]:
    """Videos with instances of three classes and ambiguous segments, and predictions; no two scores are equal."""
    rng = np.random.default_rng(seed)
    videos, rows = [], []
    for number in range(num_videos):
        starts = rng.uniform(0, 50, 4)
        instances = [Instance("abc"[rng.integers(3)], s, s + rng.uniform(2, 9)) for s in starts]
        doubtful = tuple(Instance("Ambiguous", s, s + 4) for s in rng.uniform(0, 50, 2))
        videos.append(Video(f"v{number}", "test", None, tuple(instances), doubtful))
        for one in instances * 3:
            start = one.start + rng.normal(0, noise)
            label = one.label if rng.random() < 0.8 else "b"
            rows.append((f"v{number}", label, rng.random(), start, start + rng.uniform(2, 9)))
    return videos, pd.DataFrame(rows, columns=COLUMNS)
