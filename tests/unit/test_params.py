"""Typed parameters."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from um import forms, params
from um.errors import BadInput
from um.evaluation.thresholds import threshold_range
from um.params import STAGES, Evaluate, Localize, Params, Train

steps = st.sampled_from(["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "1"])


@given(st.data(), steps)
def test_a_range_holds_both_ends_and_every_step_between(data, step):
    most = round(1 / float(step))
    first = data.draw(st.integers(0, most))
    count = data.draw(st.integers(0, min(most - first, 999)))
    start, stop = first * float(step), (first + count) * float(step)
    values = threshold_range(f"{start}:{min(stop, 1.0)}:{step}")
    assert len(values) == count + 1
    assert values == pytest.approx([start + i * float(step) for i in range(count + 1)], abs=1e-9)


@given(st.integers(0, 9), st.data(), st.floats(0.01, 0.99))
def test_a_range_whose_step_misses_the_stop_ends_before_it(first, data, part):
    count = data.draw(st.integers(0, 9 - first))
    values = threshold_range(f"{first / 10}:{first / 10 + (count + part) / 10}:0.1")
    assert len(values) == count + 1
    assert values[-1] <= first / 10 + (count + part) / 10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1:0.7:0.1", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ("0.5:0.95:0.05", [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]),
        ("0:0.225:0.025", [0.0, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.225]),
        ("0.4:0.4:0.1", [0.4]),
    ],
)
def test_the_ranges_of_the_literature_are_exact(text, expected):
    assert threshold_range(text) == expected


@pytest.mark.parametrize("text", ["", "0.1", "0.1:0.7", "0.1:0.7:0.1:1", "a:b:c", "0.7:0.1:0.1", "0:1:0", "0:1:-1"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        threshold_range(text)


@pytest.mark.parametrize(
    "text",
    ["nan:1:0.1", "0:inf:0.1", "0:1:nan", "0:1:inf", "-0.1:1:0.1", "0:1.1:0.1", "0:1:1e-320", "0:1:0.0001", "0:1:1e-7"],
)
def test_ranges_lie_within_0_and_1_and_have_a_thousand_thresholds_at_most(text):
    with pytest.raises(ValueError, match="expected"):
        threshold_range(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [0]\ntrain:\n  lr: 1.0e-3\n  lr: 1.0e-4\n", "found key lr twice at line 4; expected the project"),
        ("seeds: [0\n", "found invalid YAML at line 2"),
        (
            "features: {crop: 300, short_side: 256}\n",
            r"features = .*; expected crop \(300\) to be at most short_side \(256\)",
        ),
        (
            "evaluate: {tiou: '0:0.5:0.1'}\n",
            "'0:0.5:0.1'; expected thresholds above 0 under activitynet",
        ),
        ("evaluate: {protocol: thumos14, tiou: '0.5:1:0.1'}\n", "thresholds below 1 under thumos14"),
        ("evaluate: {tiou: '1'}\n", "evaluate.tiou = '1'; expected start:stop:step"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, text, message):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=message) as error:
        params.load(file)
    assert "\n" not in str(error.value)


def test_values_are_frozen():
    with pytest.raises(ValidationError):
        Train().lr = 1.0


def test_the_defaults_are_the_common_sections_of_the_file():
    written = params.load().model_dump()
    defaults = Params().model_dump()
    assert {stage: written[stage] for stage in STAGES} == {stage: defaults[stage] for stage in STAGES}


def test_overrides_change_one_dataset_only(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("train: {iterations: 7}\noverrides: {a: {train: {lr: 0.5}}}")
    values = params.load(path)
    assert values.of("a").train == Train(lr=0.5, iterations=7)
    assert values.of("b").train == Train(iterations=7)
    assert values.of("a").evaluate == Evaluate()


def test_an_empty_file_is_an_error(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("# all gone\n")
    with pytest.raises(BadInput, match="found nothing"):
        params.load(path)


@pytest.mark.parametrize("ratio", [9, 9.0, 4.5])
def test_ratios_may_be_whole_or_not(ratio):
    assert Train(r_act=ratio).r_act == ratio


def test_a_wrong_override_of_a_dataset_that_is_not_built_is_still_an_error(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("overrides: {other: {train: {lr: -1.0}}}")
    with pytest.raises(BadInput, match=r"overrides\.other\.train\.lr"):
        params.load(path)


def test_a_variant_lies_over_the_dataset(tmp_path):
    path = tmp_path / "params.yaml"
    variants = "variants: {plain: {train: {alpha: 0.0}, localize: {fusion: false}}}"
    path.write_text("overrides: {a: {train: {lr: 0.5, alpha: 0.1}}}\n" + variants)
    values = params.load(path)
    assert values.of("a", "plain").train == Train(lr=0.5, alpha=0.0)
    assert not values.of("a", "plain").localize.fusion
    assert values.of("a", "ours") == values.of("a")
    with pytest.raises(BadInput, match=r"no variant 'other'.*one of ours, plain"):
        values.of("a", "other")


@pytest.mark.parametrize("variants", ["{}", "{plain: {train: {alpha: 0.0}}}", "{plain: {localize: {gamma: 0.1}}}"])
def test_a_compared_variant_needs_both_sections(tmp_path, variants):
    path = tmp_path / "params.yaml"
    path.write_text(f"compare: [plain]\nvariants: {variants}")
    with pytest.raises(BadInput, match="compare: plain; expected a variant with `train` and `localize`"):
        params.load(path)


def test_a_wrong_variant_is_an_error_before_it_is_used(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("overrides: {a: {train: {lr: 0.5}}}\nvariants: {plain: {train: {alhpa: 0.0}}}")
    with pytest.raises(BadInput, match=r"variants\.plain\.train\.alhpa"):
        params.load(path)


@pytest.mark.parametrize(("dataset", "classes"), [("thumos14", 20), ("activitynet1.2", 100), ("activitynet1.3", 200)])
def test_the_presets_balance_the_losses_as_on_thumos14(dataset, classes):
    values = params.load()
    assert values.of(dataset).train.loss_scale == classes / 20
    assert values.of(dataset, "official").train.loss_scale == 1
    official, elsewhere = (values.of(name, "official").localize.model_dump() for name in (dataset, ""))
    assert official | {"max_segments": 750} == elsewhere


def test_the_forms_of_the_method_are_what_the_literature_says():
    values = params.load()
    official, paper, seed = (values.of("thumos14", variant) for variant in ("official", "paper", "seed"))
    localize = ("cas_thresholds", "magnitude_thresholds", "foreground", "upscale", "nms", "nms_plus_one", "whole_video")
    ours = difference(official, values.of("thumos14"))
    assert (ours["train"], set(ours["localize"])) == ({"ema": 0.98}, set(localize))
    assert difference(official, paper) == {"train": {"loss": "summed_ce"}, "localize": {"foreground": "margin"}}
    assert difference(official, seed) == {
        "train": {"background": "masked", "uncertainty": "channels"},
        "localize": {"nms_plus_one": False},
    }


@pytest.mark.parametrize("variant", ["official", "paper", "seed"])
@pytest.mark.parametrize("dataset", ["demo", "ucf6", "activitynet1.3"])
def test_the_published_forms_have_the_methods_constants_on_every_dataset(dataset, variant):
    """Whatever a dataset changes for itself, as the demo does with r_act."""
    chosen = params.load().of(dataset, variant)
    constants = chosen.train.r_act, chosen.train.r_bkg, chosen.train.margin, chosen.train.alpha, chosen.localize.upscale
    assert constants == (9, 4, 100, 5e-4, 24)


def test_the_official_form_leaves_sizes_to_the_dataset():
    """A setting that is new here has to be thought of there."""
    written = yaml.safe_load(Path("params.yaml").read_text())["variants"]["official"]
    assert set(Train.model_fields) - set(written["train"]) == {
        *("streams", "num_segments", "embedding_dim", "lr", "iterations"),
        *("eval_every", "held_out", "resident", "precision"),
    }
    assert set(Localize.model_fields) - set(written["localize"]) == {"max_segments", "nms_sigma"}


def difference(a: params.Settings, b: params.Settings) -> dict:
    pairs = {stage: (dict(getattr(a, stage)), dict(getattr(b, stage))) for stage in STAGES}
    changed = {stage: {k: v for k, v in new.items() if old[k] != v} for stage, (old, new) in pairs.items()}
    return {stage: values for stage, values in changed.items() if values}


def test_ranges_need_no_quotes(tmp_path):
    """DVC drops them when it edits the file; YAML 1.1 would read a number in base 60."""
    path = tmp_path / "params.yaml"
    path.write_text("overrides: {a: {localize: {cas_thresholds: 0:1:0.5, magnitude_thresholds: 1:1:1}}}")
    localize = params.load(path).of("a").localize
    assert (localize.cas_thresholds, localize.magnitude_thresholds) == ("0:1:0.5", "1:1:1")


def test_a_variant_may_be_based_on_another(tmp_path):
    path = tmp_path / "params.yaml"
    text = "variants: {a: {train: {lr: 0.5, beta: 0.5}, localize: {gamma: 0.5}}, b: {base: a, train: {lr: 0.1}}"
    path.write_text(text + "}")
    settings = params.load(path).of("demo", "b")
    assert (settings.train.lr, settings.train.beta, settings.localize.gamma) == (0.1, 0.5, 0.5)
    path.write_text(text + ", c: {base: d}, d: {base: c}}")
    with pytest.raises(BadInput, match=r"variant 'c', based on itself; expected another base"):
        params.load(path)
    path.write_text("compare: [b]\n" + text + "}")
    with pytest.raises(BadInput, match=r"found compare: b; expected a variant with .* and no `base`"):
        params.load(path)


def test_simulated_data_have_the_settings_of_the_real_ones(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("overrides: {a: {train: {lr: 0.5}}}")
    assert params.load(path).of("a-simulated").train.lr == 0.5


def test_a_variant_changes_the_method_only(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("overrides: {a: {train: {lr: 0.5}}}\nvariants: {strict: {evaluate: {tiou: '0.5:0.9:0.1'}}}")
    with pytest.raises(BadInput, match=r"unknown key variants\.strict\.evaluate"):
        params.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datasets: [demo, demo]", "datasets = a list; expected no duplicates, got demo twice"),
        ("seeds: [3, 0, 3]", "seeds = a list; expected no duplicates, got 3 twice"),
        ("seeds: [4294967296]", "seeds.0 = 4294967296; expected less than 4294967296"),
        ("seeds: [-1]", "seeds.0 = -1; expected greater than or equal to 0"),
        ("seeds: [true]", "seeds.0 = True; expected a valid integer"),
        ("datasets: [2024_05]", "datasets.0 = 202405; expected a name .* in quotes"),
        ("datasets: [null]", "datasets.0 = None; expected a name .* in quotes"),
        ("overrides: {2024-05-01: {}}", "a date; expected a name .* in quotes"),
        ("datasets: ['$(touch X)']", "expected a name of letters, digits"),
        ("overrides: {../x: {}}", "expected a name of letters, digits"),
        ("variants: {a b: {}}", "expected a name of letters, digits"),
        ("variants: {ours: {}}", "a variant ours; expected a name that is not reserved"),
        ("variants: {seed1: {}}", "a variant seed1; expected"),
        ("overrides: {all: {}}", "a dataset all; expected"),
        ("overrides: {a: {}, a-b: {}}\nvariants: {b: {}}", "both in models/a-b; expected separate folders"),
        ("overrides: {a: {}}\nvariants: {b-c: {}, b: {}}\ndatasets: [a-b]", None),
        ("overrides: {a-b: {}, a: {}}\nvariants: {b-c: {}, c: {}}", "both in models/a-b-c"),
    ],
)
def test_names_and_seeds_are_checked_once(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message or "both in models/a-b"):
        params.load(path)


GOOD = ["demo", "2024_05", "1e5", "a-b", "activitynet1.3", "_x", "x" * 100]
BAD = ["", "-x", ".x", "..", "../x", "/x", "a/b", "a b", "$(x)", "a;b", "a\nb", "é", "x" * 101, "a'b", "{x}", "*"]


@pytest.mark.parametrize("name", GOOD)
def test_names_that_can_be_used(name):
    assert params.check_name(name, "here") == name


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("option", ["--dataset", "--variant"])
def test_names_that_cannot_be_used_reach_no_verb(um, tmp_path, name, option):
    for words in (["train", option, name], ["table", f"{option}={name}"], ["data", "status", option, name]):
        code, _, shown = um(*words)
        assert (code, shown.count("\n")) == (2, 1)
        assert shown.startswith(f"um: command line: {option}: found ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", ["4294967296", "-1", "1.0", "x", "", "1e3", "9" * 5000])
def test_seeds_that_cannot_be_used_reach_no_verb(um, seed):
    for words in (["simulate", "--dataset", "thumos14", f"--seed={seed}"], ["table", "--seed", seed]):
        code, _, shown = um(*words)
        assert (code, shown.count("\n")) == (2, 1)
        assert "command line: --seed: found" in shown
        assert len(shown) < 1000


def test_a_job_stops_if_the_settings_of_its_stage_changed_since_the_plan(um, tmp_path):
    settings = params.Settings()
    (tmp_path / "params.yaml").write_text("train: {lr: 0.5}")
    words = ("train", "--data-dir", "nowhere", "--planned", settings.digest("train"))
    code, _, error = um(*words)
    assert (code, error.count("\n")) == (2, 1)
    assert "params.yaml: found settings of stage train that changed after this run was planned" in error
    (tmp_path / "params.yaml").write_text("localize: {gamma: 0.5}")  # which training does not use
    assert "planned" not in um(*words)[2]


@pytest.mark.parametrize(
    ("stage", "changed", "same"),
    [
        ("train", {"localize": {"nms_iou": 0.5}}, True),
        ("train", {"evaluate": {"tiou": "0.5:0.5:0.1"}}, True),
        ("train", {"evaluate": {"missing": "drop"}}, False),
        ("train", {"train": {"num_segments": 9}}, False),
        ("evaluate", {"localize": {"nms_iou": 0.5}}, False),
        ("evaluate", {"train": {"lr": 0.5}}, True),
        ("download", {"download": {"mirrors": ["/mnt"]}}, True),
        ("download", {"download": {"what": "features"}}, False),
    ],
)
def test_a_digest_holds_what_the_stage_depends_on(stage, changed, same):
    before, after = params.Settings(), params.Settings.model_validate(changed)
    assert (before.digest(stage) == after.digest(stage)) == same


def test_dvc_yaml_lists_the_same_settings_for_every_stage():
    stages = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text())["stages"]
    ours = {name: keys for name, keys in params.USES.items() if name != "report"}  # which the ledger does not record
    for name, keys in ours.items():
        stage = stages[name].get("do", stages[name])
        found = [re.fullmatch(r"overrides\.(?:demo|\$\{.+\})\.(.+)", text) for text in stage["params"]]
        listed = [match[1] for match in found if match]
        assert sorted(listed) == sorted(keys), name


ROOT = Path(__file__).parents[2]
DISPUTED = ["a: b\t", "a: !", "a: |#", "a: >-#", "{a: b?c}", "a: \u2028", "a: [", "a: 1\na: 2", "a: *b", "a: 'b", "- a"]
COMMITTED = [path.read_text("utf-8") for path in sorted([*ROOT.glob("*.yaml"), *ROOT.glob("datasets/*/*.yaml")])]


@pytest.mark.parametrize("text", [*DISPUTED, *COMMITTED], ids=lambda text: text[:12])
def test_the_quick_parser_reads_what_the_other_does(text):
    def said(parse: Callable[[], dict]) -> str:
        try:
            return repr(parse())
        except (BadInput, yaml.YAMLError) as error:
            return str(error)

    slow = said(lambda: forms._mapping(forms._Loader(text), Path("x"), "a mapping"))
    assert said(lambda: forms.parse_yaml(text, Path("x"), "a mapping")) == slow
