"""THUMOS14 in small, in the layout of its own site, and what is needed to try a dataset of sources.yaml."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from helpers.rendering import constant
from um.download.obtain import Machine
from um.download.provide import provide
from um.params import Download

Segments = Mapping[str, Sequence[tuple[str, float, float]]]  # label → video, start, end

VALIDATION: Segments = {
    "Diving": [("video_validation_0000051", 0.2, 1.0), ("video_validation_0000052", 0.1, 0.9)],
    "PoleVault": [("video_validation_0000053", 0.0, 1.1), ("video_validation_0000054", 0.3, 0.8)],
}
TEST: Segments = {
    "Diving": [("video_test_0000004", 0.2, 1.0), ("video_test_0000270", 0.2, 0.6)],
    "PoleVault": [("video_test_0000006", 0.5, 1.2)],
    "Ambiguous": [("video_test_0001292", 0.1, 0.4)],
}


def ids(listed: Segments) -> list[str]:
    """All videos that are annotated."""
    return sorted({video for segments in listed.values() for video, _, _ in segments})


COUNTED = [*ids(VALIDATION), "video_test_0000004", "video_test_0000006"]  # 270 and 1292 are excluded


def video(path: Path, seconds: float = 1.6) -> bytes:
    """A small real video, at 25 frames per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    constant(path, round(25 * seconds))
    return path.read_bytes()


def annotation_zip(path: Path, listed: Segments, subset: str) -> None:
    """As TH14_Temporal_annotations_<subset>.zip is laid out."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for label, segments in listed.items():
            lines = [f"{name}  {start:.1f} {end:.1f}\n" for name, start, end in segments]
            archive.writestr(f"annotation/{label}_{subset}.txt", "".join(lines))
        archive.writestr("annotation/detclasslist.txt", "26 Diving\n68 PoleVault\n")
        archive.writestr("__MACOSX/annotation/._Diving_val.txt", b"\0\5\26\7")


def video_zip(path: Path, folder: str, videos: Mapping[str, bytes]) -> None:
    """As TH14_validation_set_mp4.zip is laid out; it has videos that nobody annotated, too."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in videos.items():
            archive.writestr(f"{folder}/{name}.mp4", content)


def mirror(root: Path, videos: Mapping[str, bytes] | None = None, without: Sequence[str] = ()) -> Path:
    """A lab's copy of THUMOS14: `<root>/thumos14/…`, all videos the same unless given."""
    folder = root / "thumos14"
    folder.mkdir(parents=True)
    annotation_zip(folder / "TH14_Temporal_annotations_validation.zip", VALIDATION, "val")
    annotation_zip(folder / "TH14_Temporal_annotations_test.zip", TEST, "test")
    given = videos or dict.fromkeys([*ids(VALIDATION), *ids(TEST)], video(root / "any.mp4"))
    for name, inside, subset in (
        ("TH14_validation_set_mp4.zip", "validation", "validation"),
        ("TH14_Test_set_mp4.zip", "TH14_test_set_mp4", "test"),
    ):
        chosen = {key: content for key, content in given.items() if f"_{subset}_" in key and key not in without}
        video_zip(folder / name, inside, chosen | {f"video_{subset}_0009999": b"not annotated"})
    return root


def features_zip(path: Path, names: Sequence[str], snippets: int = 3) -> None:
    """As the official code's features are laid out: rgb and flow by subset, of four columns each."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            subset = "test" if "_test_" in name else "train"
            for stream in ("rgb", "flow"):
                with archive.open(f"THUMOS14/features/{subset}/{stream}/{name}.npy", "w") as file:
                    np.save(file, np.full((snippets, 4), number, np.float32))


def index(path: Path) -> dict[str, object]:
    """What is in an index.json."""
    return dict(json.loads(path.read_text("utf-8")))


def annotated(path: Path, **durations: float) -> Path:
    """An ActivityNet-style file of videos by duration; the ids tell their subset."""
    database = {
        name: {
            "subset": {"t": "training", "v": "validation"}[name[0]],
            "duration": seconds,
            "annotations": [{"label": "run", "segment": [0.0, min(0.5, seconds)]}],
        }
        for name, seconds in durations.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"database": database}))
    return path


def download(how: Machine, name: str = "thumos14", **settings: object) -> Path:
    out = Path("data") / name
    provide(name, Download(**settings), out, how)
    return out
