"""Extraction resumes, prunes, and never lies about what made a file."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.forking import launchers
from helpers.rendering import constant, encode, number

import um
from um.datasets import store
from um.errors import BadInput
from um.features import extract as extraction
from um.features import network
from um.features.backbones import clip_of
from um.features.extract import Machine, _decoded, extract, relative_path
from um.features.prefetch import prefetch
from um.files import held, sha256
from um.forms import Spec
from um.infer import Model
from um.method.checkpoint import Header
from um.method.model import UM
from um.params import Features, Train
from um.shard import Shard
from um.video import flow

TINY = Features(short_side=64, crop=32, clips=2, precision="fp32")
CPU = Machine("cpu")
FULL = pytest.mark.skipif("UM_FAULTS" not in os.environ, reason="set UM_FAULTS to run the slow tests")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network with random weights for each stream."""
    from safetensors.torch import save_file

    from um.features.backbones import build

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    files = {stream: folder / f"{stream}.safetensors" for stream in ("rgb", "flow")}
    for stream, path in files.items():
        save_file(build("i3d-inception", None, stream).state_dict(), path)
    return files


@pytest.fixture(scope="module", autouse=True)
def _networks() -> Iterator[None]:
    """A network takes half a second to build: equal ones are built once."""
    build, made = extraction._networks, {}

    def one(stream: str, settings: Features, weights: dict[str, Path], device: str) -> network.Network:
        key = (stream, weights[stream], device, settings.backbone, settings.window, settings.crop, settings.precision)
        if key not in made:
            made[key] = build(settings.model_copy(update={"streams": stream}), weights, device)[stream]
        return made[key]

    def shared(settings: Features, *given: object) -> extraction.Networks:
        return {stream: one(stream, settings, *given) for stream in settings.streams.split(",")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "_networks", shared)
        yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    lengths = {"train/a": 60, "train/b": 85, "val/c": 40, "val/d": 330}
    return {key: constant(folder / f"{key[-1]}.mp4", frames) for key, frames in lengths.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, videos: dict[str, Path], weights: dict[str, Path]) -> Path:
    """What one uninterrupted run makes."""
    out = tmp_path_factory.mktemp("features")
    extract(videos, out, TINY, weights, CPU)
    return out


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that the network has seen."""
    seen: list[int] = []
    call = network.Network.launch
    monkeypatch.setattr(network.Network, "launch", lambda self, x: seen.append(len(x)) or call(self, x))
    return seen


def content(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_layout_index_and_specification(whole: Path, videos: dict[str, Path], weights: dict[str, Path]) -> None:
    names = ["train/rgb/a.npy", "train/rgb/b.npy", "val/rgb/c.npy", "val/rgb/d.npy"]
    assert list(content(whole)) == ["index.json", "journal.jsonl", "spec.json", *names]
    lengths = [len(store.read(whole / name)) for name in names]
    assert lengths == [3, 5, 2, 20]  # whole 16-frame snippets
    features = store.read(whole / names[0])
    assert features.dtype == np.float32
    assert features.shape[1] == 1024

    index = json.loads((whole / "index.json").read_text())
    assert index["spec"] == sha256(whole / "spec.json")
    assert list(index["files"]) == names
    entry = index["files"]["val/rgb/d.npy"]
    expected = {"sha256": sha256(whole / names[3]), "snippets": 20, "source_sha256": sha256(videos["val/d"])}
    assert entry == expected
    spec = json.loads((whole / "spec.json").read_text())
    assert spec["weights_sha256"] == {"rgb": sha256(weights["rgb"])}
    assert {"fps": 25.0, "window": 16, "stride": 16, "crop": 32, "precision": "fp32"}.items() <= spec.items()
    assert not any(str(value).startswith("/") for value in spec.values())


def test_nothing_to_do_costs_nothing(
    whole: Path, videos: dict[str, Path], weights: dict[str, Path], forwards: list[int]
) -> None:
    before = content(whole)
    extract(videos, whole, TINY, weights, CPU)
    (whole / "index.json").unlink()  # Snakemake does so before it runs the rule again
    extract(videos, whole, TINY, weights, CPU)
    assert content(whole) == before
    assert forwards == []


def test_two_runs_give_the_same_bits(
    tmp_path: Path, whole: Path, videos: dict[str, Path], weights: dict[str, Path]
) -> None:
    # other videos beside it, another name, no subset: the features of a video are its own
    extract({"x": videos["train/b"]}, tmp_path, TINY, weights, CPU)
    assert (tmp_path / "rgb/x.npy").read_bytes() == (whole / "train/rgb/b.npy").read_bytes()


def started(videos: dict[str, Path], out: Path, weights: dict[str, Path], shard: str = "") -> "subprocess.Popen[bytes]":
    """An extraction in a process of its own, slow enough to be killed."""
    arguments = json.dumps([{k: str(v) for k, v in videos.items()}, str(out), str(weights["rgb"]), shard])
    program = f"""
import json, time
from pathlib import Path
from um.features import extract as module, network
from um.shard import Shard
from um.params import Features
videos, out, weights, shard = json.loads({arguments!r})
call = network.Network.launch
network.Network.launch = lambda self, x: time.sleep(0.3) or call(self, x)
settings, shard = Features(short_side=64, crop=32, clips=2, precision="fp32"), Shard.parse(shard) if shard else None
videos, weights = {{k: Path(v) for k, v in videos.items()}}, {{"rgb": Path(weights)}}
module.extract(videos, Path(out), settings, weights, module.Machine("cpu", shard=shard))
"""
    return subprocess.Popen([f"{launchers()}/script", "-c", program], stdout=subprocess.PIPE)


def kill_after(process: "subprocess.Popen[bytes]", last: Path) -> None:
    """SIGKILL half a second after a file was made."""
    deadline = time.monotonic() + 400
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()  # to the end of all that had its output stream


def test_resumes_after_a_kill(tmp_path: Path, whole: Path, videos: dict[str, Path], weights: dict[str, Path]) -> None:
    kill_after(started(videos, tmp_path, weights), tmp_path / "val/rgb/c.npy")  # then d's ten batches take seconds
    assert not (tmp_path / "index.json").exists()
    assert not (tmp_path / "val/rgb/d.npy").exists()
    (tmp_path / "val/rgb/.um-01234567-1.part.npy").write_bytes(b"torn")  # a kill while it wrote
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy") if not path.name.startswith(".")}
    assert len(kept) == 3
    extract(videos, tmp_path, TINY, weights, CPU)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert content(tmp_path) == content(whole)


def test_shards_at_the_same_time_give_the_same_bytes(
    tmp_path: Path, whole: Path, videos: dict[str, Path], weights: dict[str, Path], forwards: list[int]
) -> None:
    one, two = (started(videos, tmp_path, weights, f"{i}-of-2") for i in (1, 2))  # a and c, b and d
    kill_after(two, tmp_path / "train/rgb/b.npy")
    assert one.wait() == 0
    assert sorted(path.stem for path in tmp_path.rglob("[!.]*.npy")) == ["a", "b", "c"]
    assert not (tmp_path / "index.json").exists()
    assert not (tmp_path / "spec.json").exists()
    extract(videos, tmp_path, TINY, weights, CPU._replace(shard=Shard(2, 2)))
    assert forwards == [2] * 10  # d alone
    forwards.clear()
    extract(videos, tmp_path, TINY, weights, CPU)
    assert forwards == []
    assert content(tmp_path) == content(whole)
    for i in (1, 2, 3):  # more shards on what is there
        extract(videos, tmp_path, TINY, weights, CPU._replace(shard=Shard(i, 3)))
    extract(videos, tmp_path, TINY, weights, CPU)
    assert forwards == []
    assert content(tmp_path) == content(whole)


def test_what_shards_cannot_decode_is_missing_of_the_whole(
    tmp_path: Path, videos: dict[str, Path], weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    named = {"a": text, "b": videos["train/a"], "c": tmp_path / "absent.mp4"}
    extract(named, tmp_path / "whole", TINY, weights, CPU)
    out = tmp_path / "out"
    with pytest.raises(BadInput, match=r"text.mp4: found .* \(and 1 more failures\)"):
        extract(named, out, TINY, weights, CPU._replace(shard=Shard(1, 2), strict=True))
    for i in (1, 2):  # all of the first one's are broken, which is not all that there is
        extract(named, out, TINY, weights, CPU._replace(shard=Shard(i, 2)))
    assert not (out / "missing.tsv").exists()
    monkeypatch.setattr(extraction, "_networks", None)  # nobody tries a broken video again
    with pytest.raises(BadInput, match=r"text.mp4: found .* \(and 1 more failures\)"):
        extract(named, out, TINY, weights, CPU._replace(strict=True))
    extract(named, out, TINY, weights, CPU)
    assert content(out) == content(tmp_path / "whole")
    monkeypatch.undo()
    extract(named | {"a": videos["val/c"]}, out, TINY, weights, CPU._replace(shard=Shard(1, 2)))
    assert (out / "rgb/a.npy").is_file()


def test_features_stay_until_others_can_be_made(
    tmp_path: Path, videos: dict[str, Path], weights: dict[str, Path]
) -> None:
    out, cut = tmp_path / "out", tmp_path / "cut.safetensors"
    cut.write_bytes(weights["rgb"].read_bytes()[:1000])
    for folder, named, given in (
        (tmp_path / "new", {"a": videos["train/a"]}, {"rgb": cut}),
        (out, {"a": videos["train/a"]}, {"rgb": cut}),
        (out, {"typo": tmp_path / "typo.mp4"}, weights),
    ):
        if folder == out and not out.exists():
            extract(named, out, TINY, weights, CPU)
        before = content(out) if out.exists() else {}
        with pytest.raises(BadInput):
            extract(named, folder, TINY, given, CPU)
        assert (content(out) if out.exists() else {}) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["3", "0-of-2", "3-of-2", "1-of-0", "-1-of-2", "1/2"])
def test_a_shard_that_cannot_be(name: str) -> None:
    with pytest.raises(BadInput, match=r"--shard: found .*; expected 1-of-K to K-of-K"):
        Shard.parse(name)


def test_only_what_changed_is_extracted_again(
    tmp_path: Path, videos: dict[str, Path], weights: dict[str, Path], forwards: list[int]
) -> None:
    chosen = {"a": videos["train/a"], "c": videos["val/c"]}
    extract(chosen, tmp_path, TINY, weights, CPU)
    first = content(tmp_path)
    forwards.clear()
    (tmp_path / "rgb/a.npy").write_bytes(b"damaged")
    with pytest.raises(BadInput, match=r"rgb/a\.npy: found a file that `um extract` did not write, or that changed"):
        extract(chosen, tmp_path, TINY, weights, CPU)
    (tmp_path / "rgb/a.npy").unlink()
    extract(chosen, tmp_path, TINY, weights, CPU)
    assert forwards == [2, 2]  # three snippets
    assert content(tmp_path) == first

    forwards.clear()
    extract(chosen | {"a": videos["train/b"]}, tmp_path, TINY, weights, CPU)  # another file under the same id
    assert forwards == [2, 2, 2]
    assert len(store.read(tmp_path / "rgb/a.npy")) == 5

    forwards.clear()
    (tmp_path / "rgb/mine.npy").write_bytes(b"the user's")
    extract({"c": videos["val/c"]}, tmp_path, TINY, weights, CPU)
    assert forwards == []
    assert list(content(tmp_path)) == ["index.json", "journal.jsonl", "rgb/c.npy", "rgb/mine.npy", "spec.json"]


def test_another_specification_empties_the_folder(
    tmp_path: Path, videos: dict[str, Path], weights: dict[str, Path]
) -> None:
    a, c = {"train/a": videos["train/a"]}, {"val/c": videos["val/c"]}
    extract(a | c, tmp_path, TINY, weights, CPU)
    old = content(tmp_path)
    (tmp_path / "notes.txt").write_text("the user's")
    other = TINY.model_copy(update={"fps": 12.5})
    extract(a, tmp_path, other, weights, CPU)
    new = content(tmp_path)
    assert list(new) == ["index.json", "journal.jsonl", "notes.txt", "spec.json", "train/rgb/a.npy"]
    assert new["train/rgb/a.npy"] != old["train/rgb/a.npy"]
    assert json.loads(new["spec.json"])["fps"] == 12.5


def test_bad_videos_do_not_stop_the_others(tmp_path: Path, videos: dict[str, Path], weights: dict[str, Path]) -> None:
    text, cut = tmp_path / "text.mp4", tmp_path / "cut.mp4"
    text.write_text("no video")
    cut.write_bytes(videos["val/d"].read_bytes()[:5000])
    out = tmp_path / "out"
    named = {"b": text, "a": cut, "absent": tmp_path / "absent.mp4", "good": videos["train/a"]}
    with pytest.raises(BadInput, match=r"cut.mp4: found .* \(and 2 more failures\)"):
        extract(named, out, TINY, weights, CPU._replace(strict=True))
    assert list(content(out)) == ["journal.jsonl", "rgb/good.npy", "spec.json"]  # no index: it is not complete
    extract(named, out, TINY, weights, CPU)
    assert list(content(out)) == ["index.json", "journal.jsonl", "missing.tsv", "rgb/good.npy", "spec.json"]
    lines = [line.split("\t") for line in (out / "missing.tsv").read_text().splitlines()]
    assert [name for name, _ in lines] == ["id", "a", "absent", "b"]
    assert lines[2][1] == "no such file"
    extract({"good": videos["train/a"]}, out, TINY, weights, CPU)
    assert list(content(out)) == ["index.json", "journal.jsonl", "rgb/good.npy", "spec.json"]
    with pytest.raises(BadInput, match="cannot be decoded"):
        extract({"b": text}, out, TINY, weights, CPU)  # nothing at all is no result
    assert not (out / "index.json").exists()


def test_settings_and_names_that_cannot_be(tmp_path: Path, videos: dict[str, Path], weights: dict[str, Path]) -> None:
    assert relative_path("val/x.y") == "val/rgb/x.y.npy"
    one = {"a": videos["val/c"]}
    cases = [
        ({"../a": videos["val/c"]}, TINY, weights, "cpu", r"'\.\.'"),
        ({"a/b/c": videos["val/c"]}, TINY, weights, "cpu", "'a/b/c'"),
        (one, TINY.model_copy(update={"streams": "flow"}), {"rgb": weights["rgb"]}, "cpu", "found none for flow"),
        (one, TINY, {"rgb": tmp_path / "absent"}, "cpu", "absent: found no such file"),
        (one, TINY.model_copy(update={"backbone": "i3d-r51"}), weights, "cpu", "i3d-r51-rgb; expected one of"),
        (one, TINY, weights, "abacus", "--device: found 'abacus'"),
    ]
    for named, settings, file, device, message in cases:
        with pytest.raises(BadInput, match=message):
            extract(named, tmp_path / "out", settings, file, Machine(device))
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    ("backbone", "clip"),
    [
        pytest.param("i3d-r50", {"frames": 16, "stride": 1}, marks=FULL),
        pytest.param("i3d-r50-32x2", {"frames": 32, "stride": 2}, marks=FULL),
        ("slowonly-r50-8x8", {"frames": 8, "stride": 8}),
    ],
)
def test_recognisers_of_mmaction2_take_the_same_way(
    tmp_path: Path, videos: dict[str, Path], forwards: list[int], backbone: str, clip: dict[str, int]
) -> None:
    from um.features.backbones import build

    checkpoint = tmp_path / "weights.pth"
    torch.save({"meta": {}, "state_dict": build(backbone, None).state_dict()}, checkpoint)
    settings = TINY.model_copy(update={"backbone": backbone})
    extract({"c": videos["val/c"]}, tmp_path / "out", settings, {"rgb": checkpoint}, CPU)
    assert store.read(tmp_path / "out/rgb/c.npy").shape == (2, 2048)
    assert forwards == [2]
    assert json.loads((tmp_path / "out/spec.json").read_text())["clip"] == {"rgb": clip}


def test_what_a_network_sees_of_a_snippet(videos: dict[str, Path]) -> None:
    video = videos["train/b"]  # 85 frames that carry their numbers: five snippets
    expected = {
        "i3d-inception": lambda start: range(start, start + 16),
        "i3d-r50-32x2": lambda start: range(start - 24, start + 40, 2),
        "slowonly-r50-8x8": lambda start: range(start - 24, start + 40, 8),
    }
    for backbone, frames in expected.items():
        settings = Features(backbone=backbone, short_side=64, crop=64)
        seen = [item["rgb"] for _, item in _decoded("b", video, settings, "cpu") if item is not None]
        numbers = [[number(frame) for frame in snippet] for snippet in seen]
        assert numbers == [[min(max(i, 0), 84) for i in frames(start)] for start in range(0, 80, 16)]


def test_snippets_overlap_by_the_stride(
    tmp_path: Path, videos: dict[str, Path], weights: dict[str, Path], whole: Path
) -> None:
    one = {key: videos[key] for key in ("train/a", "val/c")}
    extract(one, tmp_path, TINY.model_copy(update={"stride": 8}), weights, CPU)
    spec = json.loads((tmp_path / "spec.json").read_text())
    assert (spec["window"], spec["stride"]) == (16, 8)
    for key, frames in (("train/rgb/a", 60), ("val/rgb/c", 40)):
        apart, overlapping = store.read(whole / f"{key}.npy"), store.read(tmp_path / f"{key}.npy")
        assert len(overlapping) == (frames - 16) // 8 + 1
        assert overlapping[::2].tobytes() == apart.tobytes()
        assert not np.array_equal(overlapping[0], overlapping[1])
    before = (tmp_path / "val/rgb/c.npy").stat().st_mtime_ns
    extract(one, tmp_path, TINY.model_copy(update={"stride": 8}), weights, CPU)
    assert (tmp_path / "val/rgb/c.npy").stat().st_mtime_ns == before
    extract(one, tmp_path, TINY, weights, CPU)  # another stride: all again
    assert (tmp_path / "spec.json").read_bytes() == (whole / "spec.json").read_bytes()
    assert (tmp_path / "val/rgb/c.npy").read_bytes() == (whole / "val/rgb/c.npy").read_bytes()


@FULL
def test_an_event_is_found_when_it_happens_whatever_the_stride(tmp_path: Path, weights: dict[str, Path]) -> None:
    """The picture turns white from 4 s to 8 s; a model trained to see white localises it, at each stride."""
    video = tmp_path / "flash.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        times = [Fraction(i, 25) for i in range(300)]
        encode(
            container, stream, lambda i: np.full((64, 64, 3), 255 * (100 <= i < 200), np.uint8), times, *[times[1]] * 2
        )
    found = {}
    for stride in (4, 8, 16):
        how = TINY.model_copy(update={"stride": stride})
        extract({"flash": video}, tmp_path / str(stride), how, weights, CPU)
        rows = store.read(tmp_path / f"{stride}/rgb/flash.npy")
        black, white = rows[0], rows[len(rows) // 2]
        seen = torch.from_numpy(white - black)
        settings = Train(embedding_dim=1)
        model = UM(1024, 1, settings)
        with torch.no_grad():
            model.embed.weight.zero_()
            model.embed.weight[0, :, 1] = seen / seen.dot(seen)
            model.embed.bias.fill_(float(-(seen @ torch.from_numpy(black)) / seen.dot(seen)))
            model.classifier.weight.fill_(10)
        pace = Spec.model_validate(json.loads((tmp_path / f"{stride}/spec.json").read_text())).pace
        header = Header(
            classes=["flash"], streams=["rgb"], snippet_seconds=pace.step, snippet_start=pace.start, selection="last",
            iteration=1, seed=0, data="", features=how, train=settings,
        )  # fmt: skip
        trained = Model(model.eval(), header, tmp_path / "model")
        options = {"cas_thresholds": "0.5:0.5:0.1", "magnitude_thresholds": "0.5:0.5:0.1", "class_threshold": 0.0}
        assert pace == (stride / 25, (16 - stride) / 50)
        for inputs in (tmp_path / str(stride), *[video] * (stride == 8)):  # from features, and from the video itself
            predicted = um.localize(inputs, trained, device="cpu", weights=weights, **options)
            (segment,) = {(one.start, one.end) for one in predicted.segments}
            assert abs(sum(segment) / 2 - 6) <= 0.04 + stride / 50
            assert abs(segment[1] - segment[0] - 4) <= 0.2 + stride / 25
            assert predicted.spans["flash"] == (pace.start, len(rows) * pace.step)
            found[stride, inputs] = segment
    assert len(set(found.values())) == 3


@pytest.mark.parametrize("stride", [1, 4, 8, 16, 20, 90])
@pytest.mark.parametrize("backbone", ["i3d-inception", "slowonly-r50-8x8", "x3d-m"])
def test_the_frames_of_snippets_of_any_stride(videos: dict[str, Path], stride: int, backbone: str) -> None:
    """Row i begins at frame i x stride; the first and the last frame are repeated beyond the ends."""
    clip = clip_of(backbone, "rgb", 16)
    first = -clip.around(16)[0]
    settings = Features(backbone=backbone, short_side=64, crop=64, stride=stride)
    seen = [item["rgb"] for _, item in _decoded("b", videos["train/b"], settings, "cpu") if item is not None]
    starts = range(0, 85 - 16 + 1, stride)
    expected = [[start + first + i * clip.stride for i in range(clip.frames)] for start in starts]
    assert [[number(frame) for frame in snippet] for snippet in seen] == np.clip(expected, 0, 84).tolist()


@pytest.mark.parametrize("backend", ["torch", "opencv"])
def test_two_streams_have_equal_lengths(
    tmp_path: Path, videos: dict[str, Path], weights: dict[str, Path], whole: Path, backend: str
) -> None:
    small = {"short_side": 32} if backend == "torch" else {}  # ours takes seconds for each
    settings = TINY.model_copy(update=small | {"streams": "rgb,flow", "flow": backend})
    chosen = {"short": constant(tmp_path / "short.mp4", 20)}
    extract(chosen, tmp_path / "rgb", TINY.model_copy(update=small), weights, CPU)
    chosen |= {"c": videos["val/c"]} if backend == "opencv" else {}
    extract(chosen, tmp_path / "both", settings, weights, CPU)
    for name in chosen:
        rgb, flow = (store.read(tmp_path / f"both/{stream}/{name}.npy") for stream in ("rgb", "flow"))
        assert rgb.shape == flow.shape
        assert not np.allclose(rgb, flow)
        same = whole / "val/rgb/c.npy" if name == "c" else tmp_path / "rgb/rgb/short.npy"
        assert rgb.tobytes() == store.read(same).tobytes()  # flow beside it changes nothing
    spec = json.loads((tmp_path / "both/spec.json").read_text())
    assert spec["weights_sha256"] == {stream: sha256(path) for stream, path in weights.items()}
    assert spec["flow"] == backend
    alone = settings.model_copy(update={"streams": "flow"})
    extract({"short": chosen["short"]}, tmp_path / "alone", alone, weights, CPU)
    assert (tmp_path / "alone/flow/short.npy").read_bytes() == (tmp_path / "both/flow/short.npy").read_bytes()


def test_flow_is_that_to_the_following_frame(videos: dict[str, Path]) -> None:
    settings = Features(streams="rgb,flow", flow="opencv", short_side=64, crop=64)
    snippets = [item for _, item in _decoded("c", videos["val/c"], settings, "cpu") if item is not None]
    frames = np.concatenate([snippet["rgb"] for snippet in snippets])  # of 40, the last 8 are no snippet
    assert [snippet["flow"].shape for snippet in snippets] == [(16, 64, 64, 2)] * 2
    grey = flow.grey(torch.from_numpy(frames))
    between = flow.quantise(flow.flow(grey[:-1], grey[1:], "opencv")).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(np.concatenate([snippet["flow"] for snippet in snippets])[:31], between)


@pytest.mark.parametrize("decoders", [1, 3])
def test_batches_mix_videos_and_change_no_bits(
    tmp_path: Path, whole: Path, videos: dict[str, Path], weights: dict[str, Path], decoders: int, forwards: list[int]
) -> None:
    extract(videos, tmp_path, TINY, weights, CPU._replace(decoders=decoders))
    assert content(tmp_path) == content(whole)
    assert forwards == [2] * 15  # 3 + 5 + 2 + 20 snippets


def test_a_store_takes_nothing_but_features(tmp_path: Path) -> None:
    wrong = {
        "flat": (np.zeros(3, "f4"), r"found float32 \(3,\)"),
        "integers": (np.zeros((3, 4), "i4"), "found int32"),
        "empty": (np.zeros((0, 4), "f4"), r"an empty array \(0, 4\)"),
        "nan": (np.array([[1, np.nan], [np.inf, 0]], "f4"), "2 of 4 values NaN or infinite"),
        "objects": (np.array([[{}]], object), "an array of objects"),
    }
    for name, (array, message) in wrong.items():
        path = tmp_path / f"{name}.npy"
        np.save(path, array, allow_pickle=True)
        with pytest.raises(BadInput, match=message):
            store.read(path)
    (tmp_path / "text.npy").write_text("text")
    for name, message in {"text": "unreadable array", "absent": "no such file"}.items():
        with pytest.raises(BadInput, match=message):
            store.read(tmp_path / f"{name}.npy")
    store.write(tmp_path / "good.npy", np.ones((2, 3), "f8"))
    np.testing.assert_array_equal(store.read(tmp_path / "good.npy"), np.ones((2, 3), "f4"))


def test_prefetch_keeps_order_and_passes_errors() -> None:
    produced = []

    def numbers(stop: int) -> Iterator[int]:
        for i in range(stop):
            produced.append(i)
            yield i
        raise ValueError("at the end")

    with prefetch([iter(range(100)), iter(range(100, 103))], 2) as items:
        assert list(items) == list(range(103))
    with prefetch([iter(range(i, 100, 7)) for i in range(7)], 2, 3) as items:
        found = list(items)
    assert sorted(found) == list(range(100))
    assert all([x for x in found if x % 7 == i] == list(range(i, 100, 7)) for i in range(7))
    with pytest.raises(ValueError, match="at the end"), prefetch([numbers(3)], 2) as items:
        list(items)
    produced.clear()
    with prefetch([numbers(10**9), numbers(10**9)], 2, 2) as items:
        assert next(items) == 0
    assert len(produced) < 10  # left early: the threads have ended


def test_two_extractions_into_one_folder_at_once_are_refused(
    tmp_path: Path, videos: dict[str, Path], weights: dict[str, Path]
) -> None:
    """Whatever their settings; shards of one kind share the folder, but not with a whole run."""
    other, c = TINY.model_copy(update={"fps": 12.5}), {"c": videos["val/c"]}
    for settings, shard in ((TINY, None), (other, None), (other, Shard(1, 2))):
        with (
            held(tmp_path, "um extract"),
            pytest.raises(BadInput, match=r"found `um extract` .process .* running in it"),
        ):
            extract(c, tmp_path, settings, weights, CPU._replace(shard=shard))
    assert content(tmp_path) == {}
    with held(tmp_path, "um extract --shard 1-of-2", shared=True):
        extract(c, tmp_path, TINY, weights, CPU._replace(shard=Shard(2, 2)))
        with pytest.raises(BadInput, match=r"`um extract --shard .-of-2` .process"):
            extract(c, tmp_path, TINY, weights, CPU)


def test_features_of_one_s_own_are_refused_before_anything_is_extracted(
    tmp_path: Path, videos: dict[str, Path], weights: dict[str, Path], forwards: list[int]
) -> None:
    mine = tmp_path / "train/rgb/a.npy"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(BadInput, match=r"a\.npy: found a file that `um extract` did not write.*move it away"):
        extract(videos, tmp_path, TINY, weights, CPU)
    assert mine.read_bytes() == b"mine"
    assert forwards == []


def test_the_longest_name_of_a_video(tmp_path: Path, videos: dict[str, Path], weights: dict[str, Path]) -> None:
    for name in ("漢" * 80, "a" * 251):
        extract({name: videos["val/c"]}, tmp_path, TINY, weights, CPU)
        assert len(store.read(tmp_path / f"rgb/{name}.npy")) == 2
    with pytest.raises(BadInput, match="256 bytes long; expected at most 255 bytes"):
        extract({"a" * 252: videos["val/c"]}, tmp_path, TINY, weights, CPU)
