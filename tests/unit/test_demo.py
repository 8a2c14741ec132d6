"""The rendered demo: its bytes follow from (seed, id), and it is a fair small localisation task."""

from collections import Counter
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from um.demo import videos as demo
from um.demo.figures import FIDGETS, PASSERS
from um.errors import BadInput
from um.files import sha256
from um.params import Download

ROOT = Path(__file__).parents[2]
SEEDS = [0, 1, 2, 12345]
SHORT = ("demo_train_0014", "demo_train_0025", "demo_test_0002")


def database(seed=0, **counts):
    return demo.plan(Download(render_seed=seed, **counts))["database"]


def seconds(video):
    return [entry["segment"] for entry in video["annotations"]]


def labels(video):
    return {entry["label"] for entry in video["annotations"]}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Three videos: id → (T, H, W) grey frames as decoded."""
    folder = tmp_path_factory.mktemp("demo")
    frames = {}
    for video_id in SHORT:
        demo.render(video_id, Download(), folder / f"{video_id}.mp4")
        with av.open(str(folder / f"{video_id}.mp4")) as file:
            stream = file.streams.video[0]
            assert stream.average_rate == demo.FPS
            assert stream.codec_context.name == "h264"
            decoded = list(file.decode(video=0))
        assert [frame.pts * frame.time_base * demo.FPS for frame in decoded] == list(range(len(decoded)))
        frames[video_id] = np.stack([frame.to_ndarray(format="gray") for frame in decoded])
    return frames


def test_as_many_videos_as_asked_for():
    default = database()
    assert Counter(video["subset"] for video in default.values()) == {"train": 36, "test": 18}
    assert next(iter(default)) == "demo_train_0001"
    assert list(default)[-1] == "demo_test_0018"
    assert list(database(train_videos=2, test_videos=1)) == ["demo_train_0001", "demo_train_0002", "demo_test_0001"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("subset", "least"), [("train", 6), ("test", 3)])
def test_every_class_is_in_enough_videos(seed, subset, least):
    videos = [video for video in database(seed).values() if video["subset"] == subset]
    count = Counter(label for video in videos for label in labels(video))
    assert set(count) == set(demo.CLASSES)
    assert min(count.values()) >= least
    assert sum(len(labels(video)) == 2 for video in videos) == round(0.22 * len(videos))  # a fifth, of few


def test_videos_differ_in_number_and_length_of_instances():
    videos = database().values()
    assert {len(video["annotations"]) for video in videos} == {1, 2, 3, 4, 5, 6}
    lengths = [end - start for video in videos for start, end in seconds(video)]
    assert min(lengths) < 1.5
    assert max(lengths) > 6.5


@pytest.mark.parametrize("seed", SEEDS)
def test_instances_are_short_apart_and_inside(seed):
    for video in database(seed).values():
        assert 12 <= video["duration"] <= 25
        assert 1 <= len(video["annotations"]) <= 6
        edges = [0.0, *(edge for segment in seconds(video) for edge in segment), video["duration"]]
        assert all(1 <= end - start <= 8 for start, end in seconds(video))
        assert all(end - start >= 1.28 for start, end in zip(edges[::2], edges[1::2], strict=True)), "gaps"
        assert 0.25 <= sum(end - start for start, end in seconds(video)) / video["duration"] <= 0.5
        for edge in edges:
            assert edge == round(round(edge * demo.FPS) / demo.FPS, 2), "a time that is no frame's"


def test_the_recorded_scores_are_at_least_twice_the_whole_videos():
    table = pd.read_csv(ROOT / "results/benchmark.csv")
    average = table[table["metric"] == "average_mAP"].set_index("method")["mean"]
    assert average["Ours (last)"] >= 2 * average["Whole video"]
    assert average["Ours (selected)"] >= 2 * average["Whole video"]


def test_a_video_depends_on_seed_and_id_only():
    many, few = database(train_videos=200, test_videos=50), database(train_videos=3, test_videos=2)
    assert {video_id: many[video_id] for video_id in few} == few
    assert database(1)["demo_train_0001"] != database(0)["demo_train_0001"]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, settings in [("a", Download()), ("b", Download(train_videos=14)), ("c", Download(render_seed=1))]:
        demo.render(SHORT[0], settings, tmp_path / name)
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b") != sha256(tmp_path / "c")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}, "temporary files are left"


def test_the_bytes_do_not_depend_on_the_processor(tmp_path, monkeypatch):
    """x264's plain C code, which every processor can run, writes what its fastest code writes."""
    frames = list(demo._frames("demo_test_0002", 0))[:100]
    monkeypatch.setattr(demo, "_frames", lambda *_: iter(frames))
    demo.render("demo_test_0002", Download(), tmp_path / "fast")
    monkeypatch.setitem(demo.ENCODER, "x264-params", demo.ENCODER["x264-params"] + ":asm=0")
    demo.render("demo_test_0002", Download(), tmp_path / "plain")
    assert sha256(tmp_path / "fast") == sha256(tmp_path / "plain")


def test_the_videos_are_what_the_plan_says(rendered):
    videos = database()
    for video_id, frames in rendered.items():
        assert len(frames) == round(videos[video_id]["duration"] * demo.FPS)
        assert frames.shape[1:] == (demo.HEIGHT, demo.WIDTH)


def test_the_background_moves_about_as_much_as_the_actions(rendered):
    videos = database()
    inside, outside = [], []
    for video_id, frames in rendered.items():
        change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2))
        action = np.zeros(len(change), bool)
        for start, end in seconds(videos[video_id]):
            action[round(start * demo.FPS) : round(end * demo.FPS)] = True
        inside.append(change[action])
        outside.append(change[~action])
    inside, outside = np.concatenate(inside), np.concatenate(outside)
    assert 0.6 < outside.mean() / inside.mean() < 1.4
    assert np.quantile(outside, 0.1) > 1, "a still background would give the actions away"


@pytest.mark.parametrize("video_id", SHORT[1:])
def test_what_is_drawn_in_the_background_does_not_depend_on_the_class(video_id, monkeypatch):
    """With other classes in the plan, every frame outside the instances stays the same."""
    number, instances = demo._instances(video_id, 0)
    before = list(demo._frames(video_id, 0))
    swapped = [(demo.CLASSES[demo.CLASSES.index(label) - 1], start, end) for label, start, end in instances]
    monkeypatch.setattr(demo, "_instances", lambda *_: (number, swapped))
    after = list(demo._frames(video_id, 0))
    same = np.array([np.array_equal(a, b) for a, b in zip(before, after, strict=True)])
    action = np.zeros(number, bool)
    for _, start, end in instances:
        action[start:end] = True
    assert same[~action].all()
    assert not same[action].any()


def test_every_fidget_and_passer_is_seen_somewhere():
    seen = set()
    for video_id in database():
        frames, instances = demo._instances(video_id, 0)
        rng = np.random.default_rng(frames)
        seen |= {act.motion for act in demo._acts(rng, frames, instances)}
        seen |= {show.motion for show, *_ in demo._passers(rng, frames)}
    assert seen >= {motion for motion, _ in (*FIDGETS, *PASSERS)}


def test_unknown_videos_are_refused(tmp_path):
    for video_id in ("demo_train_0037", "demo_test_0000", "demo_val_0001", "other"):
        with pytest.raises(BadInput, match="no such video"):
            demo.render(video_id, Download(), tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir())


def test_a_failed_rendering_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        yield np.zeros((demo.HEIGHT, demo.WIDTH, 3), np.uint8)
        raise RuntimeError("interrupted")

    monkeypatch.setattr(demo, "_frames", fail)
    with pytest.raises(RuntimeError, match="interrupted"):
        demo.render("demo_test_0001", Download(), Path(tmp_path / "x.mp4"))
    assert not list(tmp_path.iterdir())
