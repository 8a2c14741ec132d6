"""What the tables say: the benchmark, and the paper's ablation, each from the results of runs and from print."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from um.dataset import describe, root
from um.datasets import annotations, store
from um.errors import BadInput
from um.evaluation.metrics import Matched, accuracy, match_predictions, metrics_of, name_of, whole_video
from um.evaluation.submission import Model, Submission, read_submission
from um.forms import Form, load, read_json, validate
from um.params import OURS, Params, run_name, threshold_range
from um.report import bootstrap, table
from um.report.published import ABLATION, OFFICIAL, PAPER, PUBLISHED, SEED, Published
from um.report.table import AVERAGE, INTERVAL, SIMULATED, Figure, Group

LAST, BEST, SELECTED, WHOLE = "Ours (last)", "Ours (best on test)", "Ours (selected)", "Whole video"
METHODS = (LAST, SELECTED, BEST, WHOLE, PAPER, OFFICIAL, SEED)
SELECTIONS = {LAST: "last", SELECTED: "selected", BEST: "best_on_test"}
POPULATION = ("protocol", "subset", "num_videos", "num_instances", "tiou")  # equal in all rows of a dataset
MISSING = {"error": "left out", "drop": "left out", "miss": "counted as misses"}
SCORES = "Mean average precision in % at temporal IoU thresholds and its average over them."
BOOTSTRAP = (
    f"{INTERVAL}: where the average would lie with other test videos and other seeds; the middle of "
    f"{bootstrap.RESAMPLES:,} bootstrap resamples, each of as many videos and as many seeds as there are, drawn with "
    "replacement, and of the mean over the drawn seeds, moved to have their mean at the average."
)
CAPTION = (
    f"{SCORES} {LAST}: the model after its last iteration. "
    f"{SELECTED}: the model with the lowest loss on held-out training videos, by their video-level labels, and "
    "trained without them. "
    f"{BEST}: the model that scored highest of all looks at the test subset during training; it is chosen on the "
    "subset it is scored on, so this is not an honest score. "
    f"{WHOLE}: every video's true classes, each as one segment over its full length. "
    f"Published rows are as printed by their sources, which used features of their own. {BOOTSTRAP}"
)
ABLATION_CAPTION = (
    f"{SCORES} Rows as in the paper's ablation: softmax localises by the CAS alone; fusion weights it with embedding "
    "magnitudes that no loss shapes; then L_um and L_be join the training. Ours: the models after their last "
    f"iteration. The paper's rows are of THUMOS14. {BOOTSTRAP}"
)


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class Metrics(Form):
    """`metrics.json` of `um test`; shares are fractions."""

    protocol: str
    subset: str
    num_videos: Count
    num_instances: Count
    num_predictions: Count
    num_ambiguous: Count | None = None
    tiou: list[Share]
    mAP: dict[str, Share]
    average_mAP: Share
    ap: dict[str, list[Share]]
    accuracy: Share
    model: Model
    simulated: bool = False
    num_missing: Count = 0
    missing_policy: str | None = None
    missing: list[str] = Field(default=[])


class _Files(Form):
    """What the table asks of the features' index.json."""

    hint = "extract the features again: um extract"

    files: dict[str, Any]


def write(results: Path, datasets: Sequence[str], values: Params, out: Path | None = None, variant: str = OURS) -> None:
    """Write `benchmark.{csv,md,html,tex}` to `out`, and print the table.

    Args:
        results: folder with `<run>/seed<k>/{metrics,predictions}.json` and the same in `best_on_test/` and
            `selected/` there; a run is a dataset, or `<dataset>-<variant>`.
        datasets: names, in the order of the column groups.
        values: params.yaml.
        out: `results` when not given.
        variant: form of the method.

    Raises:
        BadInput: metrics or predictions are missing, or are not those that params.yaml asks for.
    """
    groups = [_benchmark(results, name, values, variant) for name in datasets]
    table.write(out or results, "benchmark", groups, METHODS, CAPTION)


def ablation(results: Path, dataset: str, variants: Sequence[str], values: Params, out: Path) -> None:
    """Write `ablation.{csv,md,html,tex}` to `out`, and print it: a row per variant, and the paper's beside it.

    Raises:
        BadInput: a variant that is no row of the paper's table, or results as for `write`.
    """
    if unknown := [variant for variant in variants if variant not in ABLATION]:
        raise BadInput(
            "command line", f"--variant {unknown[0]}", f"some of {', '.join(ABLATION)}", "a row of the paper"
        )
    whole, absent = _whole(dataset, values)
    figures = []
    for variant in variants:
        paper = ABLATION[variant]
        runs = [_Run(results, dataset, variant, seed, "last") for seed in values.seeds]
        figures += _ours(runs, whole, absent, paper.method)
        figures += _printed(dataset, paper._replace(method=_in_paper(paper)), values)
    methods = [name for variant in variants for name in (ABLATION[variant].method, _in_paper(ABLATION[variant]))]
    title = f"{_title(dataset)}: ablation"
    group = Group(title, _columns(dataset, values), figures, _notes(dataset, values, OURS, whole, len(absent)))
    table.write(out, "ablation", [group], methods, ABLATION_CAPTION)


def _in_paper(row: Published) -> str:
    return f"{row.method}, {PAPER.lower()}"


def _benchmark(results: Path, dataset: str, values: Params, variant: str) -> Group:
    whole, absent = _whole(dataset, values)
    figures = []
    for method, selection in SELECTIONS.items():
        if method == SELECTED and not values.of(dataset, variant).train.held_out:
            continue
        runs = [_Run(results, dataset, variant, seed, selection) for seed in values.seeds]
        figures += _ours(runs, whole, absent, method)
    interval = bootstrap.average_map_interval([whole])
    figures += _figures(dataset, WHOLE, [metrics_of(whole)], "annotations", interval)
    published = PUBLISHED.get(dataset, [])
    for row in published:
        figures += _printed(dataset, row, values)
    notes = [
        *_notes(dataset, values, variant, whole, len(absent)),
        *(f"{row.method}: {row.source}." for row in published),
    ]
    title = _title(dataset) + ("" if variant == OURS else f", variant {variant}")
    return Group(title, _columns(dataset, values), figures, notes)


def _whole(dataset: str, values: Params) -> tuple[Matched, list[str]]:
    """The detector of whole videos on the test subset, which also is the population of every other row.

    Beside it: ids of annotated test videos that lack features.
    """
    settings, data = values.of(dataset).evaluate, root(dataset)
    tested = annotations.load(data / "annotations.json").subset("test")
    there = {Path(path).stem for path in load(_Files, data / "features" / "index.json").files}
    absent = sorted(video.id for video in tested if video.id not in there)
    if settings.missing != "miss":
        tested = [video for video in tested if video.id in there]
    if not tested:
        hint = "extract the features: um extract --dataset " + shlex.quote(dataset)
        raise BadInput(data / "features", f"no features of {len(absent)} test videos", "at least one", hint)
    return match_predictions(tested, whole_video(tested), settings), absent


def _title(dataset: str) -> str:
    title = describe(dataset).title or dataset
    told = SIMULATED.casefold() in title.casefold()
    return title if told or not _made(dataset).get("simulated") else f"{title} ({SIMULATED})"


def _columns(dataset: str, values: Params) -> list[str]:
    return [*map(name_of, threshold_range(values.of(dataset).evaluate.tiou)), AVERAGE, INTERVAL]


def _notes(dataset: str, values: Params, variant: str, whole: Matched, absent: int) -> list[str]:
    settings, population = values.of(dataset, variant), metrics_of(whole)
    instances = f"{population['num_videos']} videos and {population['num_instances']} instances"
    policy = settings.evaluate.missing
    missing = (
        "" if policy == "error" and not absent else f"; annotated videos without features, {MISSING[policy]}: {absent}"
    )
    spread = "mean ± sample standard deviation" if len(values.seeds) > 1 else "the value"
    return [
        f"Test subset ({population['subset']}): {instances} of {len(population['ap'])} classes; "
        f"protocol {population['protocol']}, tIoU {settings.evaluate.tiou}{missing}.",
        f"Ours: {spread} of n = {len(values.seeds)} training seeds ({', '.join(map(str, values.seeds))}), "
        f"{settings.train.iterations} iterations, a look at the test subset every {settings.train.eval_every}.",
        _features(_made(dataset)),
    ]


def _ours(runs: Sequence["_Run"], whole: Matched, absent: list[str], method: str) -> list[Figure]:
    """The figures of runs that differ in their seed only."""
    metrics = metrics_of(whole)
    population = {key: metrics[key] for key in POPULATION}
    scores = [_metrics(run, population) for run in runs]
    matched = [_matched(run, score, whole, absent) for run, score in zip(runs, scores, strict=True)]
    seeds = f"seeds {', '.join(str(run.seed) for run in runs)}"
    return _figures(runs[0].dataset, method, scores, seeds, bootstrap.average_map_interval(matched))


def _printed(dataset: str, row: Published, values: Params) -> list[Figure]:
    """The figures of a published row at the thresholds of this evaluation."""
    tiou = threshold_range(values.of(dataset).evaluate.tiou)
    at = {t: round(percent / 100, 4) for t, percent in row.mAP.items() if float(t) in tiou}
    scores: dict[str, Any] = {"mAP": at}
    if threshold_range(row.tiou) == tiou:
        scores["average_mAP"] = round(row.average / 100, 4)
    return _figures(dataset, row.method, [scores], row.source)


class _Run(NamedTuple):
    """One model's results."""

    results: Path
    dataset: str
    variant: str
    seed: int
    selection: str

    def file(self, name: str) -> Path:
        """One of its files, which has to be there."""
        path = self.folder / name
        if not path.is_file():
            raise BadInput(path, "no such file", path.stem, self.command)
        return path

    @property
    def folder(self) -> Path:
        inner = "" if self.selection == "last" else self.selection
        return self.results / run_name(self.dataset, self.variant) / f"seed{self.seed}" / inner

    @property
    def command(self) -> str:
        """What makes the files."""
        model = f"models/{run_name(self.dataset, self.variant)}/seed{self.seed}/{self.selection}.safetensors"
        chosen = [] if self.variant == OURS else ["--variant", self.variant]
        words = ["um", "test", "--dataset", self.dataset, *chosen, "--model-file", model, "--out", str(self.folder)]
        return shlex.join(words)


def _metrics(run: _Run, population: dict[str, Any]) -> dict[str, Any]:
    """One metrics file, of that model and that evaluation and no other."""
    path, again = run.file("metrics.json"), f"run again: {run.command}"
    metrics = read_json(path)
    if not isinstance(metrics, dict):
        raise BadInput(path, type(metrics).__name__, "metrics", again)
    try:
        model = validate(Metrics, metrics, path).model
    except BadInput as error:
        raise BadInput(path, error.found, error.expected, again) from None
    found = {key: metrics[key] for key in POPULATION} | {"selection": model.selection, "seed": model.seed}
    for key, wanted in {**population, "selection": run.selection, "seed": run.seed}.items():
        if found[key] != wanted:
            raise BadInput(path, f"{key} = {found[key]!r}", repr(wanted), again)
    return metrics


def _matched(run: _Run, metrics: dict[str, Any], whole: Matched, absent: list[str]) -> Matched:
    """The predictions behind a metrics file, matched with the videos that the whole-video row is about.

    Raises:
        BadInput: the predictions do not give the metrics.
    """
    path, again = run.file("predictions.json"), f"run again: {run.command}"
    submitted = read_submission(path)
    matched = match_predictions(whole.videos, submitted.predictions, whole.settings)
    scored = metrics_of(matched)
    policy = {"num_missing": len(absent), "missing_policy": whole.settings.missing, "missing": absent}
    stated = {"simulated": submitted.simulated, "model": submitted.model} if submitted.model else {}
    expected = {
        "average_mAP": scored.pop("average_mAP"),
        **scored,
        **{key: value for key, value in (policy | stated).items() if key in metrics},
    }
    expected |= {"num_unlisted": matched.num_unlisted} if "num_unlisted" in metrics else {}
    for key, given in expected.items():
        for name, ours, theirs in _differences(key, given, metrics.get(key)):
            raise BadInput(path, f"{name} = {ours}", f"{theirs}, as metrics.json beside it", again)
    _check_accuracy(path, submitted, metrics["accuracy"], whole, again)
    return matched


def _differences(key: str, ours: Any, theirs: Any) -> Iterator[tuple[str, str, str]]:
    """Where two values differ, numbers by more than rounding: key, and both as text."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted({*ours, *theirs}):
            yield from _differences(f"{key}.{name}", ours.get(name), theirs.get(name))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for position, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(f"{key}.{position}", *pair)
    elif isinstance(ours, float) and isinstance(theirs, int | float):
        if abs(ours - theirs) > 1e-9:
            yield key, f"{ours:.10g}", f"{theirs:.10g}"
    elif ours != theirs:
        yield key, repr(ours), repr(theirs)


def _check_accuracy(path: Path, submitted: Submission, stated: float, whole: Matched, again: str) -> None:
    """Exactly where the predictions have the labels of every video; else by what their segments leave possible.

    A video in which another class than its own was found is none that is labelled right.
    """
    if submitted.labels is not None:
        ours, told = accuracy(whole.videos, submitted.labels), "accuracy"
        if abs(ours - stated) <= 1e-9:
            return
    else:
        found = submitted.predictions.groupby("video")["label"].unique()
        possible = [set(found.get(video.id, ())) <= set(video.labels) for video in whole.videos if video.labels]
        ours, told = 1 - possible.count(False) / len(whole.videos), "accuracy of at most"
        if stated <= ours + 1e-9:
            return
    raise BadInput(path, f"{told} = {ours:.10g}", f"{stated:.10g}, as metrics.json beside it", again)


def _figures(
    dataset: str, method: str, runs: list[dict[str, Any]], origin: str, bounds: bootstrap.Interval | None = None
) -> list[Figure]:
    """Mean and spread of every metric that the runs hold; the bounds are those of the average."""

    def figure(metric: str, tiou: float | None, numbers: list[float]) -> Figure:
        sd = stdev(numbers) if len(numbers) > 1 else None
        low, high = bounds if bounds and metric == "average_mAP" else (None, None)
        return Figure(dataset, method, metric, tiou, fmean(numbers), sd, low, high, len(numbers), origin)

    single = [metric for metric in ("average_mAP", "accuracy") if metric in runs[0]]
    return [
        *(figure("mAP", float(t), [run["mAP"][t] for run in runs]) for t in runs[0]["mAP"]),
        *(figure(metric, None, [run[metric] for run in runs]) for metric in single),
    ]


def _made(dataset: str) -> dict[str, Any]:
    """What the features' spec.json says of their making."""
    return store.made(root(dataset) / "features")


def _features(made: dict[str, Any]) -> str:
    snippets = f"{made['fps']:g} fps, {made['window']}-frame snippets" if made else ""
    if made.get("simulated"):
        return f"Features: SIMULATED (docs/simulation.md), seed {made['seed']}, {made['dims']} dimensions, {snippets}."
    if "weights_sha256" in made:
        weights = ", ".join(digest[:12] for digest in made["weights_sha256"].values())
        return f"Features: {made['backbone']}, {made['streams']}, {snippets}, weights sha256 {weights}."
    if made:
        return f"Features: made elsewhere, brought from {made.get('imported', 'files')}, {made['streams']}, {snippets}."
    return "Features: made elsewhere (no spec.json)."
