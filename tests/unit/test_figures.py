"""The report's figures: what is drawn is what is given, equal data give equal bytes, and names stay text."""

import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.patches import StepPatch

from um.datasets.annotations import Instance
from um.report.errors.diagnosis import KINDS
from um.report.figures import captions, charts, example, failures
from um.report.figures.charts import SCORE, Line, Ranked, Split, Training
from um.report.figures.drawing import drawn, inline
from um.report.figures.example import Example

HOSTILE = ["<img onerror=alert(1)>", "$x$", r"$\frac$", 'a\x00\x1b[1m"id="b']
LINES = [
    Line("Ours", [0.1, 0.2], [0.6, 0.4], [0.5, 0.3], [0.7, 0.5]),
    Line("Other", [0.1, 0.2], [0.5, 0.2]),
    Line("Paper", [0.1], [0.55], published=True),
]
LOSSES = pd.DataFrame({"iteration": [10.0, 20.0], "classification": [2.0, 1.0], "uncertainty": [50.0, 30.0]})
FOUND = {
    "by_rank": [
        {"true positive": 0.6, **dict.fromkeys(KINDS, 0.08)},
        {"true positive": 0.1, **dict.fromkeys(KINDS, 0.18)},
    ],
    "kinds": {kind: {"gain": 0.01 * number} for number, kind in enumerate(KINDS)},
    "missed": [0.2, 0.4],
    "characteristics": {
        "length": [
            {"above": 0, "up_to": 3, "num_instances": 4, "missed": [0.5, 1.0], "bin": "XS"},
            {"above": 3, "up_to": None, "num_instances": 0, "missed": [None, None], "bin": "XL"},
        ]
    },
}


def video(name: str = "v", classes=("run", "jump")) -> Example:
    segments = pd.DataFrame({"label": [classes[0]], "score": [0.8], "start": [1.0], "end": [3.0]})
    curve_TC = np.array([[0.1, 0.5], [0.9, 0.4], [0.2, 0.3]])
    truth = (Instance(classes[0], 2.0, 4.0), Instance("elsewhere", 5.0, 6.0))
    return Example(name, "best of 3", classes, curve_TC, np.array([0.0, 1.0, 0.5]), curve_TC / 2, segments, truth, 6.0)


def test_map_is_drawn_with_its_interval():
    (axes,) = charts.map_by_tiou(LINES).axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.6, 0.4], [0.5, 0.2], [0.55]]
    (band,) = [one for one in axes.collections if isinstance(one, PolyCollection)]
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert {(0.1, 0.5), (0.1, 0.7), (0.2, 0.3), (0.2, 0.5)} <= corners
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Ours", "Other", "Paper (published)"]


def test_classes_are_sorted_and_of_many_the_best_and_worst_stay():
    (axes,) = charts.ap_by_class({"Ours": {"a": [0.2, 0.4], "b": [0.9, 0.7]}, "Other": {"a": [0.5]}}).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b", "a"]
    marks = [line.get_xdata() for line in axes.lines if line.get_label() in ("Ours", "Other")]
    assert [np.asarray(mark).tolist() for mark in marks] == [[pytest.approx(0.8), pytest.approx(0.3)], [0.5]]
    many = {f"c{number:03d}": [number / 100] for number in range(100)}
    shown = [text.get_text() for text in charts.ap_by_class({"Ours": many}).axes[0].get_yticklabels()]
    half = charts.MOST_CLASSES // 2
    assert shown == [f"c{number:03d}" for number in (*range(99, 99 - half, -1), *range(half - 1, -1, -1))]


def test_curves_of_the_classes_with_most_instances_are_drawn(monkeypatch):
    curve = (np.array([0.5, 1.0]), np.array([1.0, 0.8]))
    figure = charts.precision_recall([Ranked("b", 3, {0.5: curve}), Ranked("a", 2, {0.5: curve})])
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == ["a (2)", "b (3)"]
    (line,) = figure.axes[0].lines
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0.5, 1.0], [1.0, 0.8])
    monkeypatch.setattr(charts, "MOST_PANELS", 4)
    many = charts.precision_recall([Ranked(f"c{n:02d}", n, {0.5: curve}) for n in range(7)])
    shown = [axes for axes in many.axes if axes.get_visible()]
    assert len(shown) == 4
    assert all(len(axes.lines) == 1 for axes in shown)


def test_trainings_have_a_panel_per_loss_and_one_of_scores():
    scores = pd.DataFrame({"iteration": [10.0, 20.0], SCORE: [0.2, 0.5]})
    other = LOSSES.assign(classification=[4.0, 3.0])
    figure = charts.training([Training("Ours", 0, LOSSES, scores), Training("Ours", 1, other)])
    shown = {axes.get_title(loc="left") or axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert list(shown) == [charts.PANELS["classification"], charts.PANELS["uncertainty"], charts.SCORED]
    drawn_lines = [line.get_ydata().tolist() for line in shown[charts.PANELS["classification"]].lines]
    assert drawn_lines == [[2.0, 1.0], [4.0, 3.0], [3.0, 2.0]]  # seeds, then their mean
    assert shown[charts.SCORED].lines[0].get_ydata().tolist() == [0.2, 0.5]


def test_histograms_hold_all_snippets():
    action_N, background_N = np.array([5.0, 7.0, 9.0]), np.array([0.0, 1.0])
    (axes,) = charts.magnitudes([Split("Trained", action_N, background_N, 8.0)]).axes
    labels = [patch.get_label() for patch in axes.patches]
    assert labels == ["background (2 snippets)", "action (3 snippets)"]
    for patch, values in zip(axes.patches, (background_N, action_N), strict=True):
        box = patch.get_path().get_extents()
        assert box.x0 <= values.min()
        assert box.x1 >= values.max()
    assert axes.lines[0].get_xdata()[0] == 8.0
    charts.magnitudes([Split("one value", np.array([3.0]), np.array([]))])


def test_errors_are_those_of_the_analysis():
    left, right = failures.false_positives(FOUND).axes
    heights = [[bar.get_height() for bar in group] for group in left.containers]
    assert np.allclose(heights, [[0.6, 0.1], *[[0.08, 0.18]] * len(KINDS)])
    assert np.allclose(
        [group[0].get_width() for group in right.containers], [one["gain"] for one in FOUND["kinds"].values()]
    )
    (axes,) = failures.missed(FOUND).axes
    (bar,) = axes.patches  # the empty bin has none
    assert bar.get_height() == 0.75
    assert axes.get_xticklabels()[0].get_text() == "≤3 s\nn=4"
    assert axes.lines[0].get_ydata()[0] == pytest.approx(0.3)


def steps(axes) -> list[list[float]]:
    return [list(patch.get_data()[0]) for patch in axes.patches if isinstance(patch, StepPatch)]


def test_an_example_shows_its_segments_and_curves():
    figure = example.examples([video()])
    bars, class_score, action, fused = figure.subfigs[0].axes
    spans = [path.get_extents() for one in bars.collections for path in one.get_paths() if len(path.vertices)]
    assert [(box.x0, box.x1) for box in spans] == [(2.0, 4.0), (1.0, 3.0)]
    assert steps(class_score) == [[0.1, 0.9, 0.2], [0.5, 0.4, 0.3]]
    assert steps(action) == [[0.0, 1.0, 0.5]]
    assert [text.get_text() for text in bars.get_yticklabels()] == ["run", "jump"]
    assert fused.get_xlim() == (0, 6.0)


DRAW = {
    "map_by_tiou": lambda: charts.map_by_tiou([line._replace(name=HOSTILE[0]) for line in LINES]),
    "ap_by_class": lambda: charts.ap_by_class({HOSTILE[3]: {name: [0.5] for name in HOSTILE}}),
    "precision_recall": lambda: charts.precision_recall(
        [Ranked(name, 1, {0.5: (np.array([1.0]), np.array([1.0]))}) for name in HOSTILE[1::2]]
    ),
    "training": lambda: charts.training([Training(HOSTILE[2], 0, LOSSES)]),
    "magnitudes": lambda: charts.magnitudes([Split("Trained", np.array([1.0, 3.0]), np.array([0.0]))]),
    "examples": lambda: example.examples([video(HOSTILE[0], (HOSTILE[2], "run"))]),
    "false_positives": lambda: failures.false_positives(FOUND),
    "missed": lambda: failures.missed(FOUND),
}


PNG = {"magnitudes", "missed"}  # the others would only take time


def test_every_figure_has_a_caption():
    assert set(DRAW) == set(captions.CAPTIONS)


@pytest.mark.parametrize("name", DRAW)
def test_equal_data_give_equal_bytes_and_names_stay_text(name):
    first = drawn(name, DRAW[name], png=name in PNG)
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": None, "axes.facecolor": "red", "text.parse_math": True}):
        again = drawn(name, DRAW[name], png=name in PNG)
    assert again == {form: first[form] for form in again}
    assert first["png" if name in PNG else "svg"]
    assert not re.search(rb"matplotlib v|<dc:date|tEXt", first["svg"] + first.get("png", b""))
    page = f"<p>{inline(first['svg'], HOSTILE[0])}</p>"
    root = ElementTree.fromstring(page)  # noqa: S314 (ours)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"p", "svg", "g", "defs", "path", "rect", "text", "use", "style", "clipPath", "pattern", "tspan"}
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids
    assert all(one.startswith(f"{name}-") for one in ids)
    targets = set(re.findall(r'(?:url\(|href=")#([^")]+)', page))
    assert targets <= set(ids)
    texts = "".join(root.itertext())
    if name in ("ap_by_class", "precision_recall"):
        assert "$x$" in texts
        assert "\\x00\\x1b[1m" in texts
