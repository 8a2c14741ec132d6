"""A tiny dataset in both layouts, whose features hold the class of every snippet."""

import json
from pathlib import Path

import numpy as np

SNIPPET = 16 / 25  # seconds
CLASSES = ("jump", "run", "throw")
TINY = {"num_segments": 12, "embedding_dim": 8, "iterations": 6, "eval_every": 2, "batch_size": 3, "lr": 0.01}


def options(changed: dict = TINY) -> list[str]:
    """The command-line form of hyper-parameters."""
    return [word for name, value in changed.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def entry(subset: str, instances: list, snippets: int) -> dict:
    annotated = [{"label": label, "segment": [start * SNIPPET, end * SNIPPET]} for label, start, end in instances]
    return {"subset": subset, "duration": snippets * SNIPPET, "annotations": annotated}


def make_dataset(
    root: Path, *, official: bool = False, streams: tuple[str, ...] = ("rgb",), width: int = 6, seed: int = 0
) -> Path:
    """Write 6 training and 4 test videos of 5 to 30 snippets, in our layout or the official code's."""
    rng = np.random.default_rng(seed)
    database = {}
    for number in range(10):
        subset = "train" if number < 6 else "test"
        name, label, snippets = f"video_{number:02d}", number % len(CLASSES), int(rng.integers(5, 31))
        start = int(rng.integers(0, snippets - 2))
        end = int(rng.integers(start + 2, snippets + 1))
        database[name] = entry(subset, [(CLASSES[label], start, end)], snippets)
        for stream in streams:
            features = rng.normal(0, 0.3, (snippets, width)).astype(np.float32)
            features[start:end, label] += 2
            path = root / "features" / subset / stream / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, features)
    (root / ("gt.json" if official else "annotations.json")).write_text(json.dumps({"database": database}))
    if official:
        for subset in ("train", "test"):
            names = [name for name, video in database.items() if video["subset"] == subset]
            (root / f"split_{subset}.txt").write_text("\n".join(names) + "\n")
    return root
