"""`um errors` on published predictions: the scores of `um evaluate`, and the numbers in docs/results.md."""

import json
import re
from pathlib import Path

import pytest

from um.datasets import annotations
from um.params import Evaluate
from um.report.errors import errors
from um.test import score

PAGE = Path(__file__).parents[2] / "docs/results.md"
PUBLISHED = {
    "CRNet": ("crnet_thumos14", "thumos14/gt.json", "test", "0.1:0.7:0.1"),
    "AICL": ("aicl_thumos14", "thumos14/gt.json", "test", "0.1:0.7:0.1"),
    "AutoLoc": ("autoloc_activitynet1.2", "published/autoloc_activitynet1.2_gt.json", "val", "0.5:0.95:0.05"),
}
TOTALS = {"CRNet": 19565, "AICL": 29827, "AutoLoc": 13295}


@pytest.fixture(scope="module")
def analyses(reference_data):
    """Method → its analysis and its metrics."""
    data, found = reference_data / "data", {}
    for name, (file, truth, subset, tiou) in PUBLISHED.items():
        path, how = data / f"published/{file}.json", Evaluate(tiou=tiou)
        analysis = errors.analyse(path, annotations.load(data / truth), how, errors.Options(subset))
        found[name] = analysis, score(data / truth, path, subset, how)
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_scores_and_totals(analyses, name):
    found, metrics = analyses[name]
    assert found["average_mAP"] == metrics["average_mAP"]
    assert found["num_instances"] == metrics["num_instances"]
    top, kinds = found["top"], found["kinds"].values()
    assert top["num_predictions"] == TOTALS[name]
    for h, right in enumerate(top["true_positives"]):
        assert right + sum(kind["count"][h] for kind in kinds) == TOTALS[name]
        assert found["never_hit"][h] <= found["missed"][h]
        assert round((1 - found["never_hit"][h]) * found["num_instances"]) >= right
    assert found["bins"] == ("activitynet" if name == "AutoLoc" else "thumos14")


def test_the_kinds_of_scnn_under_the_thumos14_protocol(reference_data):
    """Of the best 21,935 predictions, 450 are excused by ambiguous segments."""
    data, how = reference_data / "data", Evaluate(protocol="thumos14", tiou="0.5:0.5:0.1")
    truth = annotations.load(data / "thumos14/official_test")
    found = errors.analyse(data / "published/scnn_thumos14_tiou0.5.json", truth, how)
    assert round(found["average_mAP"], 4) == 0.1897
    counts = {kind: one["count"][0] for kind, one in found["kinds"].items()}
    expected = {"double detection": 438, "wrong label": 811, "localisation": 7665}
    assert counts == expected | {"confusion": 4183, "background": 6224}
    assert (found["top"]["true_positives"], found["top"]["ignored"]) == ([2164], [450])
    assert found["top"]["num_predictions"] == sum(counts.values()) + 2164 + 450


def test_the_numbers_in_the_documentation(analyses):
    text = PAGE.read_text("utf-8")
    (section,) = re.findall(r"^## Where published predictions fail\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    cells = {row[0]: row[2:] for row in (line.strip("| ").split(" | ") for line in section.splitlines() if "|" in line)}
    for kind in errors.KINDS:
        shares = [(one["kinds"][kind]["average_share"], one["kinds"][kind]["gain"]) for one, _ in analyses.values()]
        assert cells[kind] == [f"{100 * value:.1f}" for pair in shares for value in pair], kind
    scores = [cell for cell in re.findall(r"^\| average mAP .*$", section, re.MULTILINE)[0].split("|") if "." in cell]
    assert [float(cell) for cell in scores] == [
        round(100 * one["top"]["average_mAP"], 1) for one, _ in analyses.values()
    ]
    assert list(analyses) == [name for name in re.findall(r"\w+", section.split("|---")[0]) if name in analyses][-3:]
    crnet, aicl, autoloc = (one["characteristics"] for one, _ in analyses.values())
    short, _, medium, _, _ = map(missed, crnet["length"])
    told = [f"CRNet misses {short} % of the instances up to 3 s and {medium} % of those from 6 to 12 s."]
    short, _, medium, _, longest = map(missed, aicl["length"])
    count = aicl["length"][4]["num_instances"]
    told.append(f"AICL misses {short} and {medium} %, but {longest} % of the {count} instances above 18 s.")
    told.append(f"AutoLoc misses {missed(autoloc['coverage'][0])} % of those that cover up to a fifth of their video.")
    assert " ".join(told) in " ".join(section.split())


def missed(one: dict) -> str:
    return f"{100 * sum(one['missed']) / len(one['missed']):.1f}"


def test_the_file_is_json_of_fractions(analyses):
    def numbers(value, name=""):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from numbers(inner, key)
        elif isinstance(value, list):
            for inner in value:
                yield from numbers(inner, name)
        elif isinstance(value, float) and name not in ("above", "up_to", "tiou"):
            yield name, value

    for found, _ in analyses.values():
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert all(0 <= value <= 1 for _, value in numbers(found))
