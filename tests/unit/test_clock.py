"""Features on another clock than their annotations: the right one scores 100.0, every wrong one is refused."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny import TINY, make_dataset, options
from hypothesis import given
from hypothesis import strategies as st

from um.datasets import annotations, clock
from um.datasets.annotations import Instance, Video
from um.datasets.clock import PUBLIC, Clock
from um.errors import BadInput
from um.forms import Pace, Spec
from um.method import checkpoint
from um.method.checkpoint import Header
from um.method.model import UM
from um.params import Features, Localize, Train

CLASSES = ("jump", "run", "throw")
WIDTH = 4
TINY_RUN = options(TINY | {"iterations": 1})
FAST = Spec(fps=30, window=16, stride=4)  # 40 s are 297 rows, which are 190 s of 16 frames at 25 fps
RATES = (30, 29.97, 25, 24, 15, 60)


def lengths(seed: int = 0) -> list[float]:
    return [round(float(d), 2) for d in np.random.default_rng(seed).uniform(38, 75, 12)]


def rows_of(d: float, spec: Spec) -> int:
    return max(1, int((d * spec.fps - spec.window) // (spec.stride or spec.window)) + 1)


def make(root: Path, spec: Spec = PUBLIC, rows=rows_of, change=lambda array: array, durations: bool = True) -> Path:
    """Six training and six test videos with two instances each; every row holds the class at its middle."""
    database = {}
    for number, d in enumerate(lengths()):
        label, subset = number % 3, ("train", "test")[number // 6]
        segments = [[0.15 * d, 0.15 * d + 8], [0.6 * d, 0.95 * d]]
        known = {"duration": d} if durations else {}
        listed = [{"label": CLASSES[label], "segment": segment} for segment in segments]
        database[f"video_{number:02d}"] = {"subset": subset} | known | {"annotations": listed}
        T = rows(d, spec)
        start, seconds = spec.pace.span(T, d, root) if rows is rows_of else (0, d)
        middle_T = start + (np.arange(T) + 0.5) * seconds / T
        features = np.zeros((T, WIDTH), np.float32)
        features[:, -1] = 0.01
        for start, end in segments:
            features[(middle_T >= start) & (middle_T < end), label] = 2
        path = root / "features" / subset / "rgb" / f"video_{number:02d}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, change(features))
    (root / "annotations.json").write_text(json.dumps({"database": database}))
    return root


@pytest.fixture
def oracle(tmp_path) -> Path:
    return write_oracle(tmp_path / "oracle.safetensors", FAST.pace)


def write_oracle(path: Path, pace: Pace) -> Path:
    """A model that reads the class off the features."""
    train = Train(embedding_dim=WIDTH)
    model = UM(WIDTH, len(CLASSES), train)
    with torch.no_grad():
        for weight in (model.embed.weight, model.embed.bias, model.classifier.weight):
            weight.zero_()
        model.embed.weight[:, :, 1] = torch.eye(WIDTH)
        model.classifier.weight[:, : len(CLASSES), 0] = 10 * torch.eye(len(CLASSES))
    of_model = {"selection": "last", "iteration": 1, "seed": 0, "data": "00", "features": Features(), "train": train}
    localize = Localize()
    header = Header(
        classes=list(CLASSES),
        streams=["rgb"],
        snippet_seconds=pace.step,
        snippet_start=pace.start,
        localize=localize,
        **of_model,
    )
    checkpoint.write(path, model, header)
    return path


def said(spec: Spec) -> list[str]:
    values = {"fps": f"{spec.fps:g}", "window": spec.window, "stride": spec.stride}
    return [word for key, value in values.items() if value for word in (f"--feature-{key}", str(value))]


def score(um, root: Path, model: Path, *words: object) -> tuple[int, float, str]:
    code, _, errors = um("test", "--data-dir", root, "--model-file", model, "--out", "out", *words)
    return code, json.loads(Path("out/metrics.json").read_text())["average_mAP"] if code == 0 else 0.0, errors


@pytest.mark.parametrize("durations", [True, False])
@pytest.mark.parametrize("spec", [PUBLIC, FAST, Spec(fps=25, window=16, stride=8), Spec(fps=30, window=16)], ids=str)
def test_the_right_clock_scores_100(um, tmp_path, spec, durations):
    root = make(tmp_path / "d", spec, durations=durations)
    model = write_oracle(tmp_path / "oracle.safetensors", spec.pace)
    for missing in ("error", "drop"):
        assert score(um, root, model, *said(spec), "--missing", missing)[:2] == (0, 1.0)
    (root / "features/spec.json").write_text(spec.model_dump_json(exclude_none=True))
    assert score(um, root, model)[:2] == (0, 1.0)
    assert score(um, root, model, *said(spec))[:2] == (0, 1.0)  # the same twice is no conflict
    assert um("train", "--data-dir", root, "--out", "model", *TINY_RUN)[0] == 0
    assert checkpoint.read(Path("model/last.safetensors"), Train())[1].pace == spec.pace


def native(d: float, _: Spec) -> int:
    """16 frames at a frame rate of the video's own."""
    return int(d * RATES[int(100 * d) % len(RATES)] // 16)


WRONG = {  # what the features are, and what the message says
    "every 4 frames at 30 fps": ({"spec": FAST}, "0.64 s per row.*16 frames every 4 at 30 fps"),
    "stride 8": ({"spec": Spec(fps=25, window=16, stride=8)}, "16 frames every 8 at 25 fps"),
    "30 fps": ({"spec": Spec(fps=30, window=16)}, "16 frames at 30 fps"),
    "15 fps": ({"spec": Spec(fps=15, window=16)}, "16 frames at 15 fps"),
    "one frame a row": ({"spec": Spec(fps=25, window=16, stride=1)}, "every 1 at 25 fps"),
    "its own frame rate": ({"rows": native}, "each video's own frame rate"),
    "rescaled": ({"rows": lambda *_: 100}, "100 rows for videos of .* rescaled to one length"),
    "transposed": ({"change": np.transpose}, r"arrays of \(D, T\).*np\.load"),
    "rescaled and transposed": ({"rows": lambda *_: 100, "change": np.transpose}, "4 rows for videos of .* rescaled"),
    "of other videos": ({"rows": lambda d, _: int(d * 7919) % 97 + 20}, "are these the features of these videos"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_clock_is_refused(um, tmp_path, case):
    made, message = WRONG[case]
    root, model = make(tmp_path / "d", **made), write_oracle(tmp_path / "oracle.safetensors", PUBLIC.pace)
    for missing in ("error", "drop"):
        outcomes = [
            um("train", "--data-dir", root, "--out", "model", "--missing", missing, *TINY_RUN),
            um("test", "--data-dir", root, "--model-file", model, "--out", "out", "--missing", missing),
            um("features", "inspect", root, "--missing", missing),
        ]
        for code, _, errors in outcomes:
            assert code == 2
            assert re.search(message, errors.splitlines()[-1]), errors
            assert errors.count("um: ") == 1


@pytest.mark.parametrize("spec", [FAST, Spec(fps=25, window=16, stride=8), Spec(fps=15, window=16, stride=16)], ids=str)
@pytest.mark.parametrize("durations", [True, False])
def test_the_advice_works(um, tmp_path, spec, durations):
    root = make(tmp_path / "d", spec, durations=durations)
    code, _, errors = um("train", "--data-dir", root, "--out", "model", *TINY_RUN)
    assert code == 2
    advice = re.search(r"write (\{.*?\}) to (\S+), or use ((?:--feature-\w+ [\d.]+ ?)+)", errors)
    assert advice, errors
    told, file, words = advice.groups()
    assert um("features", "inspect", root, *words.split())[0] == 0
    Path(file).write_text(told)
    assert um("features", "inspect", root)[0] == 0


@given(
    st.sampled_from(clock.RATES),
    st.sampled_from([*clock.STRIDES, *clock.LONG_STRIDES]),
    st.lists(st.tuples(st.floats(5, 300), st.floats(0.05, 1), st.booleans()), min_size=1, max_size=12),
)
def test_the_advice_works_whatever_the_clock_and_the_ends(fps, stride, drawn):
    made = Spec(fps=fps, window=max(16, stride), stride=stride)
    videos = [
        Video(f"v{number}", "test", d if known else None, (Instance("run", 0, max(0.01, share * d)),))
        for number, (d, share, known) in enumerate(drawn)
    ]
    rows = [rows_of(d, made) for d, _, _ in drawn]
    at = (Path("features"), Path("annotations.json"))
    try:
        clock.check(*at, Clock(PUBLIC), videos, rows, "rgb")
    except BadInput as error:
        advice = re.search(r"write (\{.*?\}) to", str(error))
        if "add durations, and" in str(error):
            videos = [replace(video, duration=d) for video, (d, _, _) in zip(videos, drawn, strict=True)]
        if advice and "FPS" not in advice[1]:
            clock.check(*at, Clock(Spec.model_validate_json(advice[1]), Path("spec.json")), videos, rows, "rgb")


def test_features_too_short_or_too_long_for_what_is_known_of_the_videos(um, tmp_path):
    """Without durations: the ends of the last instances."""
    for spec, stated, message in (
        (PUBLIC, FAST, "s or more in annotations.json; 6 of 6"),
        (FAST, PUBLIC, "no instance after 20% of the features in 6 of the 6 videos"),
    ):
        root = make(tmp_path / str(spec), spec, durations=False)
        code, _, errors = um("features", "inspect", root, *(said(stated) if stated is FAST else []))
        assert code == 2
        assert message in errors, errors


def test_what_is_only_likely_is_a_warning_where_the_clock_is_stated(um, tmp_path, caplog):
    root = make(tmp_path / "d", FAST, durations=False)
    assert um("features", "inspect", root)[0] == 2
    caplog.clear()
    assert um("features", "inspect", root, "--feature-fps", 25)[0] == 0
    assert caplog.text.count("no instance after 20% of the features") == 2


@pytest.mark.parametrize(
    ("spec", "words", "message"),
    [
        (
            FAST,
            ("--feature-fps", "25"),
            "found 0.64 s per row; expected 0.1333 s per row, the first from 0.2 s, as in .*spec.json",
        ),
        (None, ("--feature-fps", "0"), "--feature-fps = 0.0; expected greater than 0"),
        (None, ("--feature-fps", "1001"), "--feature-fps"),
        (None, ("--feature-window", "0"), "--feature-window"),
        (None, ("--feature-stride", "-4"), "--feature-stride"),
        (None, ("--feature-fps", "nan"), "--feature-fps"),
        (None, ("--feature-fps", "fast"), "--feature-fps"),
    ],
)
def test_options_that_cannot_be(um, tmp_path, oracle, spec, words, message):
    root = make(tmp_path / "d", spec or PUBLIC)
    if spec:
        (root / "features/spec.json").write_text(spec.model_dump_json())
    for verb in (("train", *TINY_RUN), ("test", "--model-file", oracle), ("features", "inspect")):
        where = (root,) if verb[0] == "features" else ("--data-dir", root, "--out", "out")
        code, _, errors = um(*verb, *where, *words)
        assert code == 2
        assert re.search(message, errors), errors
        assert errors.count("um: ") == 1


SPECS = {
    "not JSON": "{",
    "a list": "[]",
    "no fps": '{"window": 16}',
    "no window": '{"fps": 25}',
    "zero fps": '{"fps": 0, "window": 16}',
    "negative fps": '{"fps": -25, "window": 16}',
    "NaN": '{"fps": NaN, "window": 16}',
    "infinite": '{"fps": Infinity, "window": 16}',
    "too fast": '{"fps": 1001, "window": 16}',
    "a text": '{"fps": 25, "window": "16"}',
    "null": '{"fps": 25, "window": null}',
    "a fraction of a frame": '{"fps": 25, "window": 16, "stride": 0.5}',
    "no stride": '{"fps": 25, "window": 16, "stride": 0}',
    "a negative stride": '{"fps": 25, "window": 16, "stride": -4}',
    "true": '{"fps": true, "window": 16}',
    "a huge number": '{"fps": 1%s, "window": 16}' % ("0" * 5000),
    "nested": "[" * 100_000,
}


@pytest.mark.parametrize("case", SPECS)
def test_a_spec_that_is_none(um, dataset, case):
    (dataset / "features/spec.json").write_text(SPECS[case])
    for words in (("train", "--data-dir", dataset, "--out", "model", *TINY_RUN), ("features", "inspect", dataset)):
        code, _, errors = um(*words)
        assert code == 2
        assert errors.count("um: ") == 1
        assert "spec.json: found" in errors


def test_a_spec_per_subset(um, tmp_path):
    root = make(tmp_path / "d", FAST)
    for subset in ("train", "test"):
        (root / f"features/{subset}/spec.json").write_text(FAST.model_dump_json())
    assert um("features", "inspect", root)[0] == 0
    (root / "features/test/spec.json").write_text(PUBLIC.model_dump_json())
    code, _, errors = um("features", "inspect", root)
    assert code == 2
    assert re.search("per row.*; expected .* per row", errors)


def test_a_model_of_another_clock(um, tmp_path, oracle):
    root = make(tmp_path / "d", PUBLIC)
    code, _, errors = score(um, root, oracle)
    assert code == 2
    assert "found 0.64 s per row; expected 0.1333 s" in errors
    features = root / "features/test"
    assert um("localize", features, "--model-file", oracle, "--no-timelines")[0] == 0  # nothing tells their clock
    (features / "spec.json").write_text('{"fps": 25, "window": 16}')
    code, _, errors = um("localize", features, "--model-file", oracle, "--no-timelines")
    assert code == 2
    assert (
        f"{features}/spec.json: found 0.64 s per row; expected 0.1333 s per row, the first from 0.2 s, as in the model"
        in errors
    )
    (features / "spec.json").write_text(FAST.model_dump_json())
    assert um("localize", features, "--model-file", oracle, "--no-timelines")[0] == 0


def compared(videos: list[Video], rows: list[int], spec: Spec = PUBLIC) -> None:
    clock.check(Path("features"), Path("annotations.json"), Clock(spec), videos, rows, "rgb")


def video(d: float, number: int = 0) -> Video:
    return Video(f"video_{number}", "test", d, (Instance("run", 0.1 * d, 0.9 * d),))


HONEST = {  # a video of d seconds → the seconds that its rows cover
    "the last snippet dropped": lambda d, rng: d - 0.64,
    "two dropped, as flow does": lambda d, rng: d - 1.28,
    "filled up": lambda d, rng: d + 0.64,
    "rounded to seconds": lambda d, rng: d + rng.uniform(-0.5, 0.5),
    "rates that drift by 4 %": lambda d, rng: d * rng.uniform(0.96, 1.04),
    "all drift by 2 %": lambda d, rng: d * 0.98,
    "one in twenty is of another cut": lambda d, rng: d * (0.5 if rng.random() < 0.05 else 1),
}


@pytest.mark.parametrize("case", HONEST)
def test_honest_differences_pass(case):
    rng = np.random.default_rng(0)
    for longest in (20, 200, 2000):
        durations = rng.uniform(5, longest, 300)
        rows = [max(1, round(HONEST[case](d, rng) / 0.64)) for d in durations]
        compared([video(d, n) for n, d in enumerate(durations)], rows)


@given(st.lists(st.floats(3, 4000), min_size=1, max_size=30), st.sampled_from([PUBLIC, FAST, Spec(fps=10, window=8)]))
def test_exact_rows_always_pass(durations, spec):
    compared([video(d, n) for n, d in enumerate(durations)], [rows_of(d, spec) for d in durations], spec)


@given(st.lists(st.floats(30, 4000), min_size=1, max_size=30), st.sampled_from([0.2, 0.5, 0.8, 1.2, 2, 4.8, 25, 1000]))
def test_any_other_clock_is_refused_with_one_line(durations, factor):
    rows = [max(1, int(factor * d / 0.64)) for d in durations]
    with pytest.raises(BadInput, match=r"s in its rgb features .*; hint: ") as caught:
        compared([video(d, n) for n, d in enumerate(durations)], rows)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("factor", "told"), [(1.038, r"\+4\.\d%"), (0.962, r"-3\.\d%")])
def test_what_is_slightly_off_in_one_direction_is_told_by_its_median(factor, told):
    rows = [round(factor * (100 + n) / 0.64) for n in range(10)]
    message = (
        rf"; 10 of 10 videos differ, by {told} \(median\); expected a median between -3% and \+3%; hint: (?!the others)"
    )
    with pytest.raises(BadInput, match=message):
        compared([video(100.0 + n, n) for n in range(10)], rows)


def test_durations_in_another_unit():
    with pytest.raises(BadInput, match="in seconds, not frames or milliseconds"):
        compared([video(40_000.0 + n, n) for n in range(4)], [62] * 4)


def thumos14(reference_data: Path) -> tuple[list[Video], dict[str, float], dict[str, float]]:
    folder = reference_data / "data/thumos14"
    known = json.loads((folder / "durations.json").read_text())
    videos = sorted(annotations.load(folder / "gt.json").videos.values(), key=lambda video: video.id)
    of = {key: {name: float(entry[key]) for name, entry in known.items()} for key in ("duration", "fps")}
    return videos, of["duration"], of["fps"]


@pytest.mark.parametrize("role", ["train", "test"])
@pytest.mark.parametrize("durations", [True, False])
def test_thumos14_passes_with_its_four_annotations_past_the_end(reference_data, caplog, role, durations):
    videos, seconds, rates = thumos14(reference_data)
    videos = [video for video in videos if video.subset == role]
    told = [Video(v.id, v.subset, seconds[v.id] if durations else None, v.instances) for v in videos]
    with caplog.at_level(logging.WARNING):
        for rows in (lambda d: d * 25 // 16, lambda d: (d * 25 - 1) // 16, lambda d: -(-d * 25 // 16)):
            compared(told, [int(rows(seconds[v.id])) for v in videos])
    assert not caplog.records
    wrong = {
        "every 4 at 30": lambda d, _: (d * 30 - 16) // 4,
        "every 8 at 25": lambda d, _: (d * 25 - 16) // 8,
        "16 frames at 30 fps": lambda d, fps: d * fps // 16,  # their own rates, nearly all 30
        "rescaled": lambda d, _: 100,
        "at 24 fps": lambda d, _: d * 24 // 16,
    }
    for message, rows in wrong.items():
        with pytest.raises(BadInput, match=message):
            compared(told, [int(rows(seconds[v.id], rates[v.id])) for v in videos])


def test_activitynet_passes_as_resampled_by_its_declared_rates(reference_data):
    """The worst that is known of it: rates are whole numbers in the list, 7.5 is 7 or 8."""
    import csv

    folder = reference_data / "data/activitynet"
    known = json.loads((folder / "anet1.3_durations.json").read_text())
    table = list(csv.DictReader((folder / "anet1.3_video_info.csv").open()))
    videos = [video(known[row["video"]]["duration_second"], n) for n, row in enumerate(table)]
    declared = [float(row["numFrame"]) / float(row["fps"]) for row in table]
    compared(videos, [max(1, int(seconds * 25 / 16)) for seconds in declared])
    with pytest.raises(BadInput, match="each video's own frame rate"):
        compared(videos, [max(1, int(row["numFrame"]) // 16) for row in table])


def test_ucf6_passes(reference_data):
    folder = reference_data / "data/ucf6"
    truth = annotations.load(folder / "annotations.json")
    named = {path.stem: len(np.load(path, mmap_mode="r")) for path in folder.glob("features_rgb_reference/*.npy")}
    compared([truth.videos[name] for name in sorted(named)], [named[name] for name in sorted(named)])


def test_a_wrong_duration_among_few_videos_names_it(um, tmp_path):
    root = make_dataset(tmp_path / "d")
    content = json.loads((root / "annotations.json").read_text())
    content["database"]["video_02"]["duration"] *= 3
    (root / "annotations.json").write_text(json.dumps(content))
    code, _, errors = um("train", "--data-dir", root, "--out", "model", *TINY_RUN)
    assert code == 2
    assert "found video_02: " in errors
    assert "the others agree" in errors


RESCALED = Spec(fps=25, window=16, rows=100)


@pytest.mark.parametrize("file", [True, False])
def test_rescaled_features_lie_on_the_timeline_by_the_durations(um, tmp_path, file):
    root = make(tmp_path / "d", rows=lambda *_: 100)
    if file:
        (root / "features/spec.json").write_text('{"rows": 100}')
    words = [] if file else ["--feature-rows", 100]
    assert um("train", "--data-dir", root, "--out", "model", *words, *TINY_RUN)[0] == 0
    assert checkpoint.read(Path("model/last.safetensors"), Train())[1].pace == (None, 0)
    model = write_oracle(tmp_path / "oracle.safetensors", RESCALED.pace)
    assert score(um, root, model, *words)[:2] == (0, 1.0)
    code, out, _ = um("features", "inspect", root, *words)
    assert code == 0
    assert "100 rows per video, rescaled to its duration" in out
    if file:  # durations come from the annotations: loose features have none
        assert um("localize", "--data-dir", root, "--subset", "test", "--model-file", model, "--out", "p.json")[0] == 0
        code, _, errors = um("localize", root / "features/test", "--model-file", model, "--out", "q.json")
        assert code == 2
        assert "rescaled features of a video of unknown duration" in errors
    code, _, errors = score(um, root, write_oracle(tmp_path / "other.safetensors", PUBLIC.pace), *words)
    assert code == 2
    assert "found rows rescaled to each video's duration; expected 0.64 s per row" in errors


def test_rescaled_features_need_their_number_of_rows_and_durations(um, tmp_path):
    root = make(tmp_path / "d", rows=lambda *_: 100)
    code, _, errors = um("features", "inspect", root)
    assert code == 2
    advice = re.search(r"write (\{.*?\}) to (\S+), or use --feature-rows 100", errors)
    Path(advice[2]).write_text(advice[1])
    assert um("features", "inspect", root)[0] == 0
    (root / "features/spec.json").write_text('{"rows": 99}')
    code, _, errors = um("features", "inspect", root)
    assert code == 2
    assert "found 100 rows per video: " in errors
    bare = make(tmp_path / "bare", rows=lambda *_: 100, durations=False)
    code, _, errors = um("features", "inspect", bare, "--feature-rows", 100)
    assert code == 2
    assert "annotations.json: found no duration of" in errors


@pytest.mark.parametrize("centre", [0, 2, 8, 24.5])
def test_the_first_centre_moves_the_rows(um, tmp_path, centre):
    spec = Spec(fps=25, window=16, stride=4, centre=centre)
    root, model = make(tmp_path / "d", spec), write_oracle(tmp_path / "oracle.safetensors", spec.pace)
    (root / "features/spec.json").write_text(spec.model_dump_json(exclude_none=True))
    assert score(um, root, model)[:2] == (0, 1.0)
    found = json.loads(Path("out/predictions.json").read_text())["results"]
    truth = json.loads((root / "annotations.json").read_text())["database"]
    for name, rows in found.items():
        best = max(rows, key=lambda row: row["score"])["segment"]
        instances = [item["segment"] for item in truth[name]["annotations"]]
        assert min(max(abs(best[0] - start), abs(best[1] - end)) for start, end in instances) <= 4 / 25
        assert all(row["segment"][0] >= 0 for row in rows)
