"""The Python API on tiny features."""

import json

import numpy as np
import pytest
from helpers.tiny import TINY, make_dataset

import um
from um.errors import BadInput


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = make_dataset(tmp_path_factory.mktemp("data") / "d")
    return root, um.train(root, root.parent / "m", **TINY)


def test_a_folder_an_array_and_a_mapping_give_the_same(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, path = trained
    model = um.load_model(path)
    folder = um.localize(root / "features/test", model)
    assert sorted(folder.curves) == ["video_06", "video_07", "video_08", "video_09"]
    array = np.load(root / "features/test/rgb/video_06.npy")
    (alone, named) = um.localize(array, path), um.localize({"video_06": array}, model)
    assert [segment[1:] for segment in alone.segments] == [segment[1:] for segment in named.segments]
    assert named.segments == [segment for segment in folder.segments if segment.video == "video_06"]
    assert named.to_frame().columns.tolist() == ["video", "label", "score", "start", "end"]
    assert json.loads(named.to_json())["results"].keys() == {"video_06"}
    assert named.curves["video_06"].magnitude_T.shape == (len(array),)
    assert named.durations == {"video_06": pytest.approx(len(array) * 0.64)}
    assert not list(tmp_path.iterdir())


def test_settings_are_keywords_and_unknown_ones_are_refused(trained):
    root, path = trained
    all_classes = um.localize(root / "features/test", path, class_threshold=0.0)
    assert len(all_classes.segments) > len(um.localize(root / "features/test", path, class_threshold=1.0).segments)
    with pytest.raises(BadInput, match=r"unknown key localize\.treshold"):
        um.localize(root / "features/test", path, treshold=0.5)
    with pytest.raises(BadInput, match=r"unknown key train\.steps"):
        um.train(root, root.parent / "n", steps=3)


def test_predictions_are_scored_as_their_file_is(trained, tmp_path):
    root, path = trained
    found = um.localize(root / "features/test", path)
    (tmp_path / "predictions.json").write_text(found.to_json())
    truth = root / "annotations.json"
    of_file = um.evaluate(truth, tmp_path / "predictions.json", tiou="0.5:0.5:0.1")
    of_object = um.evaluate(truth, found, tiou="0.5:0.5:0.1")
    assert of_object == {key: value for key, value in of_file.items() if key != "model"}
    assert list(of_object["mAP"]) == ["0.50"]


def test_files_that_cannot_be_used_are_named(trained, tmp_path):
    root, path = trained
    with pytest.raises(BadInput, match="no such file or folder"):
        um.localize(tmp_path / "film.mp4", path)
    with pytest.raises(BadInput, match="shape"):
        um.localize(np.zeros(3, np.float32), path)
    array = np.load(root / "features/test/rgb/video_06.npy")
    found = um.localize({"good": array, "bad": array[:, :3]}, path)
    assert list(found.curves) == ["good"]
    assert "features of width 3" in str(found.left_out["bad"])


@pytest.mark.parametrize("where", ["params.yaml", "nothing"])
def test_localisation_settings_are_those_of_the_models_dataset(trained, tmp_path, monkeypatch, caplog, where):
    root, _ = trained
    monkeypatch.chdir(tmp_path)
    text = "overrides: {mine: {localize: {class_threshold: 1.0}}}"
    (tmp_path / "params.yaml").write_text(text)
    path = um.train(root, tmp_path / "m", dataset="mine", **TINY)
    asked = um.localize(root / "features/test", path, class_threshold=1.0).segments
    if where == "nothing":
        (tmp_path / "params.yaml").unlink()
    found = um.localize(root / "features/test", path).segments
    assert (found == asked) == (where == "params.yaml")
    assert ("not those of mine" in caplog.text) == (where == "nothing")
