"""What was built: a dataset's part of the benchmark table, and the hashes of its models and inputs."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from um.dataset import root
from um.datasets import store
from um.errors import BadInput
from um.files import sha256
from um.forms import read_text
from um.report.page.collect import Collected
from um.report.table.benchmark import BEST, CEILINGS, LAST, RANDOM, WHOLE
from um.report.table.render import AVERAGE, INTERVAL, Figure, Group, Table

UNRANKED = (BEST, RANDOM, WHOLE, *CEILINGS)


def tables(results: Path, found: Sequence[Collected]) -> dict[str, Table]:
    """Dataset → its part of benchmark.csv, if that is of the results beside it; else a sentence in `missing`."""
    path = results / "benchmark.csv"
    if not path.is_file():
        return {}
    rows, found_tables = _figures(path), {}
    for data in found:
        own = [row for row in rows if row.dataset == data.dataset]
        average = [row for row in own if (row.method, row.column) == (LAST, AVERAGE)]
        scores = [result.metrics.average_mAP for result in next(iter(data.runs.values()), [])]
        if average and scores and abs(average[0].mean - np.mean(scores)) > 1e-9:
            data.missing.append(f"{path} does not match {results / data.dataset}: run `um table` again.")
        elif average:
            columns = list(dict.fromkeys(row.column for row in own if row.metric != "accuracy"))
            methods = list(dict.fromkeys(row.method for row in own))
            group = Group(data.title, [*columns, INTERVAL], own, [])
            ranked = [method for method in methods if method not in UNRANKED]
            found_tables[data.dataset] = Table([group], methods, ranked=ranked)
    return found_tables


def _figures(path: Path) -> list[Figure]:
    """The lines of benchmark.csv."""
    expected = "benchmark.csv as `um table` writes it"
    listed = list(csv.DictReader(io.StringIO(read_text(path, expected))))
    try:
        return [
            Figure(
                row["dataset"],
                row["method"],
                row["metric"],
                _number(row["tiou"]),
                float(row["mean"]),
                _number(row["sd"]),
                _number(row["low"]),
                _number(row["high"]),
                int(row["n"]),
                row["source"],
            )
            for row in listed
        ]
    except (KeyError, TypeError, ValueError):
        raise BadInput(path, "other columns or values", expected, "run `um table` again") from None


def _number(text: str) -> float | None:
    return float(text) if text else None


def features(data: Collected) -> list[tuple[str, str]]:
    """How the features were made."""
    made = store.made(root(data.dataset) / "features")
    words = [made.get(name) for name in ("backbone", "streams", "imported")]
    told = ", ".join(str(word) for word in words if word)
    return [("Features", told)] if told else []


def models(data: Collected) -> list[dict[str, str]]:
    """The scored models."""
    return [
        {
            "run": result.run,
            "seed": str(result.seed),
            "iteration": "–" if result.metrics.model.iteration is None else f"{result.metrics.model.iteration:,}",
            "score": f"{100 * result.metrics.average_mAP:.1f}",
            "accuracy": f"{100 * result.metrics.accuracy:.1f}",
            "file": str(result.model),
            "weights": result.metrics.model.weights or "–",
        }
        for result in data.results
    ]


def files(data: Collected) -> list[dict[str, str]]:
    """The inputs, with the sha256 of each, which covers all videos and features by their indices."""
    place = root(data.dataset)
    named = {
        place / "annotations.json": "annotations",
        place / "videos/index.json": "sha256 of every video",
        place / "features/index.json": "sha256 of every features file",
    }
    found = [
        {"path": str(path), "what": what, "sha256": sha256(path)} for path, what in named.items() if path.is_file()
    ]
    weights = store.made(place / "features").get("weights_sha256")
    if isinstance(weights, dict):
        named_weights = {str(stream): str(digest) for stream, digest in weights.items()}
        found += [
            {"path": "backbone", "what": f"weights, {stream}", "sha256": digest}
            for stream, digest in named_weights.items()
        ]
    return found
