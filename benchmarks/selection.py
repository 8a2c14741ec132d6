"""Choose localisation settings without the dataset they are scored on (docs/ours.md).

python benchmarks/selection.py demo=data/demo:models/demo ucf6=data/ucf6:models/ucf6 [...]

Every argument is NAME=FOLDER:MODELS, with MODELS/seed*/last.safetensors of `ours` and MODELS-official/seed*/ of the
official method. If NAME is a dataset of params.yaml, its settings apply, except for what is chosen. All candidates are
scored on all datasets. For each dataset, the candidate with the highest mean gain over `official` on the *other*
datasets is chosen; the table shows its score there, beside that of the settings in params.yaml and of the best
candidate, which knows the answer.
"""

import argparse
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from um import params
from um.datasets.folder import Folder
from um.datasets.subset import Subset, load_subset
from um.evaluation.metrics import evaluate
from um.method import checkpoint
from um.method.localize import Curves, curves
from um.method.predict import segments
from um.params import Localize

GRID: dict[str, list[dict[str, Any]]] = {
    "foreground": [{"foreground": name} for name in ("minmax", "margin", "saturating")],
    "points per snippet": [{"upscale": factor} for factor in (24, 4, 1)],
    "suppression": [{"nms": "hard", "nms_plus_one": True}, {"nms": "soft", "nms_plus_one": False}],
    "CAS thresholds": [{"cas_thresholds": text} for text in ("0:0.225:0.025", "0.05:0.35:0.05", "0.05:0.5:0.05")],
    "magnitude thresholds": [{"magnitude_thresholds": text} for text in ("0.4:0.6:0.025", "0.1:0.9:0.05")],
}


class Data:
    """A dataset's test subset, and the curves of its models."""

    def __init__(self, folder: Path, models: Path, scoring: params.Evaluate) -> None:
        self.folder, self.scoring = Folder(folder, missing="drop"), scoring
        self.subset: Subset = load_subset(self.folder, "test")
        lengths = map(int, self.subset.length_V)
        self.spans = [self.folder.span(*each) for each in zip(self.subset.videos, lengths, strict=True)]
        self.models = sorted(models.glob("seed*/last.safetensors"))
        self.official = sorted(models.with_name(f"{models.name}-official").glob("seed*/last.safetensors"))

    def curves(self, paths: list[Path], settings: Localize) -> list[list[Curves]]:
        """Of every model and video."""
        networks = [checkpoint.read(path, params.Train())[0] for path in paths]
        videos = range(len(self.subset.videos))
        return [[curves(network, self.subset.features(i).float(), settings) for i in videos] for network in networks]

    def score(self, models: list[list[Curves]], settings: Localize) -> float:
        """Average mAP in percent, the mean over models."""

        def of(videos: list[Curves]) -> float:
            each = zip(self.subset.videos, videos, self.spans, strict=True)
            rows = [segments(video.id, *found, self.folder.classes, settings) for video, *found in each]
            frame = pd.concat(rows, ignore_index=True)
            return 100 * float(evaluate(self.subset.videos, frame, self.scoring)["average_mAP"])

        return fmean(of(videos) for videos in models)


def told(candidate: dict[str, Any]) -> str:
    """A candidate in words."""
    how = f"{candidate['foreground']}, {candidate['upscale']} points, {candidate['nms']} NMS"
    return f"{how}, CAS {candidate['cas_thresholds']}, magnitude {candidate['magnitude_thresholds']}"


def main() -> None:
    """Score all candidates everywhere, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", metavar="NAME=FOLDER:MODELS")
    parser.add_argument("--out", type=Path, help="csv of all scores")
    chosen = parser.parse_args()
    candidates = [{k: v for part in parts for k, v in part.items()} for parts in product(*GRID.values())]
    values = params.load()
    scores, before, after = {}, {}, {}
    for text in chosen.datasets:
        name, _, places = text.partition("=")
        folder, _, models = places.partition(":")
        settings, official = values.of(name), values.of(name, "official").localize
        ours = settings.localize
        data = Data(Path(folder), Path(models), settings.evaluate)
        before[name] = data.score(data.curves(data.official, official), official)
        of = {kind["foreground"]: data.curves(data.models, ours.model_copy(update=kind)) for kind in GRID["foreground"]}
        after[name] = data.score(of[ours.foreground], ours)
        scores[name] = [data.score(of[c["foreground"]], ours.model_copy(update=c)) for c in candidates]
    frame = pd.DataFrame(scores, index=pd.Index(map(told, candidates), name="candidate"))
    if chosen.out:
        frame.to_csv(chosen.out)
    gains = frame - pd.Series(before)
    for name in frame:
        others = gains.drop(columns=name).mean(axis=1) if len(frame.columns) > 1 else gains[name]
        choice = str(others.idxmax())
        print(
            f"{name}: official {before[name]:.1f}, chosen on the others {frame.loc[choice, name]:.1f}, "
            f"params.yaml {after[name]:.1f}, best candidate {frame[name].max():.1f}; chosen: {choice}"
        )


if __name__ == "__main__":
    main()
