"""
What the rules share: the validated params.yaml, and how it reaches their verbs.

REQUIRED INPUTS:

    params.yaml     every scientific choice
    dvc.yaml        which files of src/ and datasets/ each stage depends on
"""

import re
import sys
from functools import cache
from pathlib import Path

from um import params as choices
from um import provenance
from um.dataset import check_source, comes_as_videos, is_shared
from um.errors import BadInput
from um.forms import validate

STAGES = ("weights", "download", "features", "train", "evaluate", "table")
WEIGHTS = "data/weights/i3d-inception-rgb.safetensors"


# Into how many jobs an extraction and a download are split is the machine's: `--set-scatter shards=K downloads=K`, or
# `set-scatter` in a profile.
scattergather:
    shards=1,
    downloads=1,


SHARDS = len(gather.shards("{scatteritem}"))
DOWNLOADS = len(gather.downloads("{scatteritem}"))


# The same for all jobs of a plan, which may be thousands.
code_of = cache(provenance.code)


def stop(error):
    """End with the error's one line."""
    print(f"um: {error}", file=sys.stderr)
    sys.exit(2)


def configured():
    """The values of --config as they were given: Snakemake itself takes the dataset 2024_05 for the number 202405."""
    entries = [entry.partition("=") for entry in workflow.config_settings.config_args or ()]
    given = config | {key: value.strip("'\"") for key, _, value in entries}
    given = {key: value for key, value in given.items() if value not in (None, "")}
    try:
        if unknown := sorted(set(given) - {"only", "dataset", "variant", "seed", "what"}):
            hint = "scientific choices go to params.yaml"
            raise BadInput("--config", f"unknown key {unknown[0]}", "only, dataset, variant, seed or what", hint)
        only, dataset, variant, what = (given.get(key) for key in ("only", "dataset", "variant", "what"))
        if only and only not in STAGES:
            raise BadInput(
                "--config", f"only = {only!r}", f"one of {', '.join(STAGES)}", "stages are those of dvc.yaml"
            )
        for key in ("dataset", "variant"):
            if key in given:
                choices.check_name(given[key], f"--config: {key}")
        seed = str(choices.check_seed(str(given["seed"]), "--config: seed")) if "seed" in given else None
    except BadInput as error:
        stop(error)
    return only, dataset, seed, what, variant or choices.OURS


def of_what(settings):
    """The settings, with videos or features brought as --config asks for; where copies are changes nothing that is made."""
    if WHAT == "annotations":
        raise BadInput("--config", "what=annotations", "videos or features", "um download --what annotations does it")
    changed = {"mirrors": []} | ({"what": WHAT} if WHAT else {})
    download = validate(choices.Download, settings.download.model_dump() | changed, "--config")
    return settings.model_copy(update={"download": download})


def chosen():
    """The dataset of every run that may be asked for, settings by run and dataset, and the seeds."""
    try:
        values = choices.load()
        datasets = [DATASET] if DATASET else values.datasets
        seeds = [seed for seed in values.seeds if SEED in (None, str(seed))]
        if not seeds:
            raise BadInput("--config", f"seed = {SEED}", "a seed of params.yaml", "add it to `seeds` there")
        choices.check_runs([*values.datasets, *values.overrides, *datasets], values.variants, "params.yaml")
        known = sorted(path.parent.name for path in Path("datasets").glob("*/dataset.yaml"))
        if unknown := [dataset for dataset in datasets if dataset not in known]:
            raise BadInput("datasets", f"no {unknown[0]}", f"one of {', '.join(known)}", "docs/datasets.md adds one")
        for dataset in datasets:  # Snakemake deletes outputs before it makes them
            check_source(dataset, Path("data") / dataset)
        if MAIN:
            provenance.check_ledger(values)
        if ONLY == "table":
            provenance.check_leftovers(values)
        runs, by_name = {}, {}
        for dataset in datasets:
            by_name[dataset] = of_what(values.of(dataset))
            rows = [row for row in ABLATION if row in (choices.OURS, *values.variants)]
            for variant in [VARIANT] if ONLY else [VARIANT, *rows]:
                run = choices.run_name(dataset, variant)
                runs[run], by_name[run] = dataset, of_what(values.of(dataset, variant))
        built = [by_name[choices.run_name(dataset, VARIANT)] for dataset in datasets]
        if len({settings.train.held_out > 0 for settings in built}) > 1:
            found = "train.held_out = 0 for some datasets"
            raise BadInput("params.yaml", found, "0 for all or for none", "the table has one row for `selected`")
        return runs, by_name, seeds
    except BadInput as error:
        stop(error)


ABLATION = ("softmax", "fusion", "fusion_um", choices.OURS)  # the rows of the paper's table
ONLY, DATASET, SEED, WHAT, VARIANT = configured()
# what is built by itself
PART = [DATASET, VARIANT != choices.OURS and VARIANT, SEED and not ONLY and f"seed{SEED}", WHAT]
MAIN = not any(PART)  # what the ledger records
RUNS, SETTINGS, SEEDS = chosen()
DATASETS = sorted(set(RUNS.values()), key=list(RUNS.values()).index)
BUILT = [choices.run_name(dataset, VARIANT) for dataset in DATASETS]
SELECTED = SETTINGS[BUILT[0]].train.held_out > 0
SELECTIONS = ["", "best_on_test/", *["selected/"] * SELECTED]  # folders of results; that of `last` is the seed's own
# Such a part has its own table: that of params.yaml's datasets and seeds stays as it is.
TABLE = "results/benchmark" if MAIN else f"results/{'-'.join(filter(None, [DATASET or 'all', *PART[1:]]))}/benchmark"


def earlier(pattern):
    """The pattern of an earlier stage's files, which must be there when that stage's rules are not."""
    for path in expand(pattern, dataset=DATASETS, run=BUILT, seed=SEEDS) if ONLY else []:
        if not Path(path).exists():
            part = [f"dataset={DATASET}"] * bool(DATASET) + [f"variant={VARIANT}"] * (VARIANT != choices.OURS)
            hint = f"`snakemake {' '.join(['--config', *part, '']) if part else ''}-- {path}` builds it; `dvc pull` brings it"
            stop(BadInput(path, "no such file", f"what stage {ONLY} starts from", hint))
    return pattern


def of_dataset(pattern):
    """The same for a file of the dataset that a job's run is of."""

    def of_run(wildcards):
        return pattern.format(dataset=RUNS[wildcards.run])

    earlier(pattern)
    return of_run


def model_file(run, seed, selection):
    """The model whose scores a folder of results holds: one of SELECTIONS below the seed's."""
    return f"models/{run}/seed{seed}/{Path(selection).name or 'last'}.safetensors"


def dataset_of(wildcards):
    """The dataset that a job's run is of."""
    return RUNS[wildcards.run]


@cache
def has_videos(dataset):
    """Whether features are extracted from the dataset's videos; asked for by all jobs of a plan."""
    return comes_as_videos(dataset, SETTINGS[dataset].download)


def downloads_of(wildcards):
    """The marks of the jobs that share a dataset's download, if there are several."""
    if DOWNLOADS < 2 or not is_shared(wildcards.dataset, SETTINGS[wildcards.dataset].download):
        return []
    return gather.downloads("data/{dataset}/downloads/shards/{scatteritem}", dataset=wildcards.dataset)


def weights_of(wildcards):
    """The backbone's weights, for a dataset whose features are extracted."""
    return earlier(WEIGHTS) if has_videos(wildcards.dataset) else []


def shards_of(wildcards):
    """The marks of the jobs that share a dataset's extraction, if there are several."""
    if SHARDS < 2 or not has_videos(wildcards.dataset):
        return []
    return gather.shards("data/{dataset}/features/shards/{scatteritem}", dataset=wildcards.dataset)


def words(option, values):
    """An option for each of the values, as the words of a command line."""
    return [word for value in values for word in (option, str(value))]


def rows_of(wildcards):
    """Scores and predictions of every row of a dataset's ablation."""
    runs = [choices.run_name(wildcards.dataset, variant) for variant in ABLATION]
    return expand("results/{run}/seed{seed}/{name}.json", run=runs, seed=SEEDS, name=["metrics", "predictions"])


def settings(name, *stages):
    """All settings of these stages, as options of their verb."""
    return choices.options(*(getattr(SETTINGS[name], stage) for stage in stages))


def options(*stages):
    """The same for a job's run or dataset."""

    def of_job(wildcards):
        return settings(wildcards.get("run") or wildcards.dataset, *stages)

    return of_job


def code(stage):
    """Hash of the code and the committed facts that the stage depends on."""

    def of_dataset(wildcards):
        return code_of(stage, wildcards.get("dataset", ""))

    return of_dataset
