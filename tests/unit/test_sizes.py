"""The sizes of a training that follow from its data."""

import pytest
import torch
from helpers.tiny import make_dataset

from um.method import checkpoint, sizes
from um.params import AUTO, Train


def numbers(settings: Train) -> tuple:
    return tuple(getattr(settings, name) for name in sizes.AUTOMATIC)


@pytest.mark.parametrize(
    ("lengths", "classes", "expected"),
    [
        ([47] * 60, 6, (94, 512, 4e-4, 300, 75)),  # ucf6
        ([200] * 60, 20, (400, 512, 4e-4, 500, 125)),  # the golden dataset
        ([3] * 5, 2, (16, 512, 4e-4, 300, 75)),
        ([236] * 200, 20, (472, 2048, 1e-4, 1000, 250)),  # THUMOS14
        ([2000] * 9000, 200, (750, 2048, 1e-4, 10_000, 500)),
    ],
)
def test_auto_is_a_number_that_follows_from_the_data(lengths, classes, expected):
    assert numbers(sizes.resolved(Train(), torch.tensor(lengths), classes)) == expected


def test_what_is_given_stays():
    given = Train(num_segments=7, embedding_dim=9, lr=0.5, iterations=11, eval_every=3)
    length_V = torch.tensor([20, 30])
    assert sizes.resolved(given, length_V, 3) == given
    assert sizes.told(given, given, length_V) == ""
    assert sizes.resolved(Train(embedding_dim=2048), length_V, 3).lr == 1e-4


def test_one_line_tells_the_numbers():
    length_V = torch.tensor([20, 30, 50])
    line = sizes.told(Train(iterations=50), sizes.resolved(Train(iterations=50), length_V, 3), length_V)
    assert line == (
        "auto, from 3 training videos of 30 snippets (median): num_segments 60, embedding_dim 512, lr 0.0004, "
        "eval_every 13"
    )


@pytest.mark.parametrize("name", sizes.AUTOMATIC)
def test_auto_is_written_as_a_word(name):
    assert Train(**{name: "auto"}) == Train()
    assert Train().model_dump()[name] == "auto"
    assert getattr(Train(), name) == AUTO
    for wrong in (0, -1, "some"):
        with pytest.raises(ValueError, match=r"auto|greater|valid"):
            Train(**{name: wrong})


def test_auto_is_an_option_too(um, tmp_path):
    data = make_dataset(tmp_path / "d")
    words = ["--num-segments", "auto", "--iterations", "20", "--embedding-dim", "8", "--eval-every", "20"]
    code, _, _ = um("train", "--data-dir", str(data), "--out", str(tmp_path / "m"), *words)
    assert code == 0
    _, header = checkpoint.read(tmp_path / "m/last.safetensors", Train())
    assert (header.train.iterations, header.train.embedding_dim, header.train.lr) == (20, 8, 4e-4)
    assert header.train.num_segments >= 16
    code, _, said = um("train", "--data-dir", str(data), "--out", str(tmp_path / "m"), "--iterations", "some")
    assert code == 2
    assert "iterations" in said
