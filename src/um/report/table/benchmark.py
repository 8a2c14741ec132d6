"""The benchmark table and the paper's ablation: our results beside published scores."""

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Any, NamedTuple

from um.dataset import describe, root
from um.datasets import annotations, store
from um.errors import BadInput
from um.evaluation.fitting import fitted
from um.evaluation.metrics import Matched, match_predictions, metrics_of, name_of
from um.evaluation.submission import read_submission
from um.evaluation.thresholds import threshold_range
from um.files import sha256
from um.forms import Form, load
from um.params import OURS, Params
from um.report import bootstrap
from um.report.table import controls, render
from um.report.table.published import (
    ABLATION,
    ACTIVITYNET,
    FIELD,
    LATER,
    LATER_SOURCE,
    PAPER,
    PRINTED,
    Published,
    rows_of,
)
from um.report.table.render import AVERAGE, INTERVAL, SIMULATED, Figure, Group, Table
from um.report.table.runs import Checked, Run, checked, checked_metrics

log = logging.getLogger(__name__)

LAST, BEST, SELECTED = "Ours (last)", "Ours (best on test)", "Ours (selected)"
RANDOM, WHOLE = "Random segments", "Whole video"
SEGMENTS, CLASSES = "True segments, our classes", "Our segments, true classes"
CEILINGS = {SEGMENTS: controls.true_segments, CLASSES: controls.true_classes}
NAMES = {"official": "UM, our code", "paper": "UM as in the paper, our code", "cola": "CoLA, our code"}
INGREDIENTS = {  # rows of the ablation of `ours`: variant of params.yaml → row
    OURS: "Ours",
    "no_average": "Ours, last weights",
    "minmax": "Ours, min-max foreground",
    "official_thresholds": "Ours, official thresholds",
    "interpolation": "Ours, 24 points per snippet",
    "hard_nms": "Ours, hard NMS + 1 s",
}
CHOSEN = {LAST: "last", SELECTED: "selected", BEST: "best_on_test"}
MISSING = {"error": "left out", "drop": "left out", "miss": "counted as misses"}
SCORES = "Mean average precision in % at temporal IoU thresholds and its average over them."
BOOTSTRAP = (
    f"{INTERVAL}: the range of the average over other test videos and other seeds. It is the middle of "
    f"{bootstrap.RESAMPLES:,} bootstrap resamples of the mean over seeds; each draws as many videos and seeds as the "
    "data have, with replacement. The interval is shifted so that the resamples' mean is the average."
)
CAPTION = (
    f"{SCORES} {LAST}: the model after its last iteration. "
    f"{SELECTED}: the model with the lowest loss on held-out training videos, given their video-level labels, and "
    "trained without them. "
    f"{BEST}: the checkpoint with the highest score on the test subset. It is chosen on the videos it is scored on, "
    "so this is not an honest score. "
    "Our code: published methods, trained here on the same features, after the last iteration. "
    f"Controls: {RANDOM.lower()} ({controls.EACH} per video, with random classes); {WHOLE.lower()} (every video's true "
    f"classes, each as one segment over its full length); {SEGMENTS.lower()} and {CLASSES.lower()} (of {LAST}: what it "
    "would score if the rest were right). "
    f"Published rows are quoted from their sources, which used their own features. {BOOTSTRAP}"
)
ABLATION_CAPTION = (
    f"{SCORES} First the paper's ablation: softmax localises by the CAS alone; fusion weights it by embedding "
    "magnitudes, without a loss on them; the other rows train with L_um, then also with L_be. Our rows are models "
    f"after their last iteration. The paper's rows are on THUMOS14. "
    "Then ours, and ours with one ingredient of the official code instead (docs/ours.md). "
    f"{BOOTSTRAP}"
)


class Extra(NamedTuple):
    """Rows on request.

    Attributes:
        others: row → submission to score on the only dataset; results of ours may then be missing.
        later: published averages of later methods.
    """

    others: Mapping[str, Path] = MappingProxyType({})
    later: bool = False


class _Files(Form):
    """The part of the features' index.json that the table uses."""

    hint = "extract the features again: um extract"

    files: dict[str, Any]


def write(
    rows_of_run: Callable[[str, str], Group],
    datasets: Sequence[str],
    values: Params,
    out: Path,
    variant: str = OURS,
    extra: Extra = Extra(),  # noqa: B008 (immutable)
) -> None:
    """Write `benchmark.{csv,md,html,tex}` to `out`, and print the table.

    Args:
        rows_of_run: the rows of a dataset and variant: `rows`, or those it has written.
        datasets: names, in the order of the column groups.
        values: params.yaml.
        out: folder.
        variant: of the method.
        extra: rows on request.

    Raises:
        BadInput: metrics or predictions are missing, or contradict params.yaml.
    """
    others = extra.others
    if others and len(datasets) != 1:
        raise BadInput("command line", f"--predictions with {len(datasets)} datasets", "one", "name it with --dataset")
    built = {name: _with_compared(rows_of_run, name, values, variant) for name in datasets}
    field = list(FIELD) if set(FIELD) & set(datasets) or list(datasets) == values.datasets else []
    ours = [*CHOSEN, *map(row_of, values.compare)]
    theirs = [*PRINTED, *(f"{row[0]} ({row[1]})" for row in LATER), *others]
    methods = [*theirs, *ours, RANDOM, WHOLE, *CEILINGS]
    if taken := [name for name in others if methods.count(name) > 1]:
        raise BadInput("command line", f"--predictions {taken[0]}=…", "a name that is no row yet", "rename it")
    ranked = [method for method in (*theirs, *ours) if method != BEST]
    built = {name: _in_order(_with_others(group, name, values, extra), methods) for name, group in built.items()}
    groups = [[built.get(name) or _unbuilt(name, extra.later) for name in field]] if field else []
    groups += [[group] for name, group in built.items() if name not in field]
    render.write(out, "benchmark", [Table(each, methods, [LAST], ranked) for each in groups], CAPTION)


def ablation(results: Path, dataset: str, variants: Sequence[str], values: Params, out: Path) -> None:
    """Write `ablation.{csv,md,html,tex}` to `out`, and print it: each variant, followed by the paper's row if any.

    Raises:
        BadInput: a variant that is not in the paper's table or ours, or results as for `write`.
    """
    known = [*ABLATION, *INGREDIENTS]
    if unknown := [variant for variant in variants if variant not in known]:
        found, expected = f"--variant {unknown[0]}", f"some of {', '.join(known)}"
        raise BadInput("command line", found, expected, "choose rows of the table")
    whole, absent = _whole(dataset, values)
    figures, methods = [], []
    for variant in variants:
        runs = [Run(results, dataset, variant, seed, "last") for seed in values.seeds]
        paper = ABLATION.get(variant)
        methods.append(paper.method if paper else INGREDIENTS[variant])
        built = [checked(run, whole, absent) for run in runs]
        figures += _ours(runs, built, methods[-1])
        if paper:
            methods.append(f"{paper.method}, {PAPER.lower()}")
            figures += _printed(dataset, paper._replace(method=methods[-1]), whole.settings.tiou)
    notes = _notes(dataset, values, runs[0], whole, len(absent), built)
    group = Group(f"{title_of(dataset)}: ablation", _columns(whole.settings.tiou), figures, notes)
    render.write(out, "ablation", [Table([group], methods)], ABLATION_CAPTION)


def rows(results: Path, dataset: str, values: Params, variant: str = OURS, is_alone: bool = False) -> Group:
    """The rows of one dataset and variant: its models', controls and published scores.

    Args:
        results: folder with `<run>/seed<k>/{metrics,predictions}.json` and the same in `best_on_test/` and
            `selected/` there; a run is a dataset, or `<dataset>-<variant>`.
        dataset: name.
        values: params.yaml.
        variant: of the method.
        is_alone: results and features may be missing; then there are only controls.

    Raises:
        BadInput: metrics or predictions are missing, or contradict params.yaml.
    """
    whole, absent = _whole(dataset, values, is_alone)
    run = Run(results, dataset, variant, values.seeds[0], "last")
    is_built = not is_alone or run.folder.parent.is_dir()
    runs = _runs(run, values) if is_built else {}
    figures = []
    for each in chain.from_iterable(runs.values()):
        checked_metrics(each, {})  # all files, before the first takes long
    found = {method: [checked(each, whole, absent) for each in seeds] for method, seeds in runs.items()}
    for method, seeds in runs.items():
        figures += _ours(seeds, found[method], method)
    downloads = {method: _download(seeds[0], found[method]) for method, seeds in runs.items() if method != BEST}
    chance = match_predictions(whole.videos, controls.random_segments(whole.videos), whole.settings)
    for control, matched in ((RANDOM, chance), (WHOLE, whole)):
        interval = bootstrap.average_map_interval([matched])
        figures += _figures(dataset, control, [metrics_of(matched)], "annotations", interval)
    notes = _notes(dataset, values, run, whole, len(absent), found.get(LAST, []))
    if is_built:
        figures += _ceilings(dataset, found[LAST], whole)
        if outside := _outside(figures):
            log.warning("%s: %s", dataset, outside)
            notes.append(outside)
    published = rows_of(dataset)
    figures += [figure for row in published for figure in _printed(dataset, row, whole.settings.tiou)]
    notes += _sources(published)
    title = title_of(dataset) + ("" if variant == OURS else f", variant {variant}")
    return Group(title, _columns(whole.settings.tiou), figures, notes, downloads)


def _runs(run: Run, values: Params) -> dict[str, list[Run]]:
    """Row → its runs, one for each seed."""
    chosen = {method: run._replace(selection=selection) for method, selection in CHOSEN.items()}
    if not values.of(run.dataset, run.variant).train.held_out:
        del chosen[SELECTED]
    return {method: [each._replace(seed=seed) for seed in values.seeds] for method, each in chosen.items()}


def _with_compared(rows_of_run: Callable[[str, str], Group], dataset: str, values: Params, variant: str) -> Group:
    """A dataset's rows, and one for each compared variant: its models after the last iteration."""
    group = rows_of_run(dataset, variant)
    figures, downloads = list(group.figures), dict(group.downloads)
    for other in values.compared(variant)[1:]:
        theirs = rows_of_run(dataset, other)
        figures += [figure._replace(method=row_of(other)) for figure in theirs.figures if figure.method == LAST]
        downloads |= {row_of(other): theirs.downloads[LAST]} if LAST in theirs.downloads else {}
    return replace(group, figures=figures, downloads=downloads)


def _with_others(group: Group, dataset: str, values: Params, extra: Extra) -> Group:
    """A dataset's rows, and those on request."""
    tiou, figures, notes = values.of(dataset).evaluate.tiou, list(group.figures), list(group.notes)
    if extra.others:
        whole, _ = _whole(dataset, values, is_alone=True)
        figures += [each for name, path in extra.others.items() for each in _scored(dataset, name, path, whole)]
    if extra.later:
        later = [row for row in rows_of(dataset, with_later=True) if row.method not in PRINTED]
        figures += [figure for row in later for figure in _printed(dataset, row, tiou)]
        notes += _sources(later)
    return replace(group, figures=figures, notes=notes)


def _in_order(group: Group, methods: Sequence[str]) -> Group:
    return replace(group, figures=sorted(group.figures, key=lambda figure: methods.index(figure.method)))


def _unbuilt(dataset: str, with_later: bool) -> Group:
    """Published rows alone."""
    rows = rows_of(dataset, with_later)
    figures = [figure for row in rows for figure in _printed(dataset, row, row.tiou)]
    columns = [column for column in _columns(rows[0].tiou) if column != INTERVAL]
    return Group(FIELD[dataset], columns, figures, ["Not built here.", *_sources(rows)])


def _sources(rows: Sequence[Published]) -> list[str]:
    """Notes: the source of each row, and one for all later methods."""
    notes = [f"{row.method}: {row.source}." for row in rows if row.source != LATER_SOURCE]
    return notes + ([f"Later methods: {LATER_SOURCE}."] if len(notes) < len(rows) else [])


def row_of(variant: str) -> str:
    """The row of a compared variant."""
    return NAMES.get(variant, f"{variant}, our code")


def _scored(dataset: str, name: str, path: Path, whole: Matched) -> list[Figure]:
    """The figures of somebody's submission."""
    truth = annotations.load(root(dataset) / "annotations.json")
    rows = fitted(path, read_submission(path), truth, whole.videos)
    matched = match_predictions(whole.videos, rows, whole.settings)
    origin = f"predictions {path.name}, sha256 {sha256(path)[:12]}"
    return _figures(dataset, name, [metrics_of(matched)], origin, bootstrap.average_map_interval([matched]))


def _whole(dataset: str, values: Params, is_alone: bool = False) -> tuple[Matched, list[str]]:
    """The whole-video detector on the test subset, which sets the population of all rows.

    Also returns the ids of annotated test videos without features. `is_alone`: there may be no features at all.
    """
    settings, data = values.of(dataset).evaluate, root(dataset)
    tested = annotations.load(data / "annotations.json").subset("test")
    if is_alone and not (data / "features/index.json").exists():
        return match_predictions(tested, controls.whole_video(tested), settings), []
    there = {Path(path).stem for path in load(_Files, data / "features" / "index.json").files}
    absent = sorted(video.id for video in tested if video.id not in there)
    if settings.missing != "miss":
        tested = [video for video in tested if video.id in there]
    if not tested:
        hint = "extract the features: um extract --dataset " + shlex.quote(dataset)
        raise BadInput(data / "features", f"no features of {len(absent)} test videos", "at least one", hint)
    return match_predictions(tested, controls.whole_video(tested), settings), absent


def title_of(dataset: str, simulated: bool = False) -> str:
    """The title of a dataset, which says so if its features or results are simulated."""
    title = describe(dataset).title or dataset
    simulated |= bool(_made(dataset).get("simulated"))
    return f"{title} ({SIMULATED})" if simulated and SIMULATED.casefold() not in title.casefold() else title


def _columns(thresholds: str) -> list[str]:
    """The thresholds that papers print; the csv has all."""
    tiou = threshold_range(thresholds)
    names = ["0.50", "0.75", "0.95"] if tiou == threshold_range(ACTIVITYNET) else map(name_of, tiou)
    return [*names, AVERAGE, INTERVAL]


def _download(run: Run, seeds: Sequence[Checked]) -> str:
    """The models of some seeds: DVC's path, and the beginnings of the sha256 of the weights."""
    names = " ".join(each.metrics["model"].get("weights", "?")[:8] for each in seeds)
    return f"{run.model.parent.parent}/*/{run.model.name}: {names}"


def _stated(seeds: Sequence[Checked], key: str) -> list[str]:
    """What metrics files state about their models."""
    return [each for seed in seeds if (each := seed.metrics["model"].get(key))]


def _notes(dataset: str, values: Params, run: Run, whole: Matched, absent: int, built: Sequence[Checked]) -> list[str]:
    settings, population = values.of(dataset, run.variant), metrics_of(whole)
    instances = f"{population['num_videos']} videos and {population['num_instances']} instances"
    policy = settings.evaluate.missing
    missing = (
        "" if policy == "error" and not absent else f"; annotated videos without features, {MISSING[policy]}: {absent}"
    )
    ours = "Ours: not built here."
    if built:
        spread = "mean ± sample standard deviation" if len(values.seeds) > 1 else "the value"
        iterations = built[0].metrics["model"]["iteration"]
        seeds = f"n = {len(values.seeds)} training seeds ({', '.join(map(str, values.seeds))})"
        machines = ", ".join(dict.fromkeys(_stated(built, "hardware")))
        ours = f"Ours: {spread} of {seeds}, {iterations:,} iterations{machines and f', trained on {machines}'}."
    return [
        f"Test subset ({population['subset']}): {instances} of {len(population['ap'])} classes; "
        f"protocol {population['protocol']}, tIoU {settings.evaluate.tiou}{missing}.",
        ours,
        *([_features(_made(dataset))] if built else []),
    ]


def _ours(runs: Sequence[Run], found: Sequence[Checked], method: str) -> list[Figure]:
    """The figures of runs that differ only in their seed."""
    seeds = f"seeds {', '.join(str(run.seed) for run in runs)}"
    interval = bootstrap.average_map_interval([each.matched for each in found])
    figures = _figures(runs[0].dataset, method, [each.metrics for each in found], seeds, interval)
    weights, machines = (" ".join(_stated(found, "weights")), ", ".join(dict.fromkeys(_stated(found, "hardware"))))
    return [figure._replace(weights=weights or None, hardware=machines or None) for figure in figures]


def _ceilings(dataset: str, found: Sequence[Checked], whole: Matched) -> list[Figure]:
    """What our segments with true classes, and true segments with our classes would score."""
    figures = []
    for method, control in CEILINGS.items():
        rows = [control(whole.videos, each.predictions) for each in found]
        scores = [metrics_of(match_predictions(whole.videos, each, whole.settings)) for each in rows]
        figures += _figures(dataset, method, scores, f"annotations and predictions of {LAST}")
    return figures


def _outside(figures: list[Figure]) -> str:
    """A note if our average is not between those of its controls; empty if it is."""
    average = {figure.method: figure.mean for figure in figures if figure.metric == "average_mAP"}
    ours, names = average[LAST], ", ".join(name.lower() for name in CEILINGS)
    if ours < average[RANDOM]:
        return f"{LAST} scores below {RANDOM.lower()}: it has learnt nothing, or its classes are named differently."
    if ours > min(average[name] for name in CEILINGS):
        return f"{LAST} scores above a ceiling ({names}): its scores or the annotations are wrong."
    if ours < average[WHOLE]:
        return f"{LAST} scores below {WHOLE.lower()}: its classes are wrong, or named differently."
    return ""


def _printed(dataset: str, row: Published, thresholds: str) -> list[Figure]:
    """The figures of a published row at the thresholds of an evaluation."""
    tiou = threshold_range(thresholds)
    at = {t: round(percent / 100, 4) for t, percent in row.mAP.items() if float(t) in tiou}
    scores: dict[str, Any] = {"mAP": at}
    if threshold_range(row.tiou) == tiou:
        scores["average_mAP"] = round(row.average / 100, 4)
    return [figure._replace(libraries=None) for figure in _figures(dataset, row.method, [scores], row.source)]


def _figures(
    dataset: str, method: str, runs: list[dict[str, Any]], origin: str, bounds: bootstrap.Interval | None = None
) -> list[Figure]:
    """Mean and spread of every metric over the runs; `bounds` is the interval of the average."""
    versions = render.libraries()

    def figure(metric: str, tiou: float | None, numbers: list[float]) -> Figure:
        sd = stdev(numbers) if len(numbers) > 1 else None
        low, high = bounds if bounds and metric == "average_mAP" else (None, None)
        mean, n = fmean(numbers), len(numbers)
        return Figure(dataset, method, metric, tiou, mean, sd, low, high, n, origin, libraries=versions)

    single = [metric for metric in ("average_mAP", "accuracy") if metric in runs[0]]
    return [
        *(figure("mAP", float(t), [run["mAP"][t] for run in runs]) for t in runs[0]["mAP"]),
        *(figure(metric, None, [run[metric] for run in runs]) for metric in single),
    ]


def _made(dataset: str) -> dict[str, Any]:
    """The features' spec.json, which describes how they were made."""
    return store.made(root(dataset) / "features")


def _features(made: dict[str, Any]) -> str:
    snippets = f"{made['fps']:g} fps, {made['window']}-frame snippets" if made else ""
    if made.get("simulated"):
        return f"Features: SIMULATED (docs/simulation.md), seed {made['seed']}, {made['dims']} dimensions, {snippets}."
    if "weights_sha256" in made:
        weights = ", ".join(digest[:12] for digest in made["weights_sha256"].values())
        return f"Features: {made['backbone']}, {made['streams']}, {snippets}, weights sha256 {weights}."
    if made:
        return f"Features: imported from {made.get('imported', 'files')}, {made['streams']}, {snippets}."
    return "Features: made elsewhere (no spec.json)."
