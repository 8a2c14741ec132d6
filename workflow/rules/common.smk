"""
What the rules share: the validated params.yaml, and how it reaches their verbs.

REQUIRED INPUTS:

    params.yaml     every scientific choice
    dvc.yaml        which files of src/ and datasets/ each stage depends on
"""

import re
import sys
from pathlib import Path

from um import params as choices
from um import provenance
from um.errors import BadInput

STAGES = ("weights", "download", "features", "train", "evaluate", "table")
WEIGHTS = "data/weights/i3d-inception-rgb.safetensors"


def stop(error):
    """End with the error's one line."""
    print(f"um: {error}", file=sys.stderr)
    sys.exit(2)


def configured():
    """The values of --config, as text."""
    if unknown := sorted(set(config) - {"only", "dataset", "seed"}):
        hint = "scientific choices go to params.yaml"
        stop(BadInput("--config", f"unknown key {unknown[0]}", "only, dataset or seed", hint))
    only = config.get("only")
    if only and only not in STAGES:
        stop(BadInput("--config", f"only = {only!r}", f"one of {', '.join(STAGES)}", "stages are those of dvc.yaml"))
    return [None if config.get(key) is None else str(config[key]) for key in ("only", "dataset", "seed")]


def chosen():
    """The settings of the datasets to build, and the seeds."""
    try:
        values = choices.load()
        datasets = [DATASET] if DATASET else values.datasets
        seeds = [seed for seed in values.seeds if SEED in (None, str(seed))]
        if not seeds:
            raise BadInput("--config", f"seed = {SEED}", "a seed of params.yaml", "add it to `seeds` there")
        known = sorted(path.parent.name for path in Path("datasets").glob("*/dataset.yaml"))
        if unknown := [dataset for dataset in datasets if dataset not in known]:
            raise BadInput("datasets", f"no {unknown[0]}", f"one of {', '.join(known)}", "docs/datasets.md adds one")
        if not DATASET:
            provenance.check_ledger(values)
        if ONLY == "table":
            provenance.check_leftovers(values)
        return {dataset: values.of(dataset) for dataset in datasets}, seeds
    except BadInput as error:
        stop(error)


ONLY, DATASET, SEED = configured()
SETTINGS, SEEDS = chosen()
DATASETS = list(SETTINGS)
# A dataset built by itself has its own table: that of params.yaml's datasets stays as it is.
TABLE = f"results/{DATASET}/benchmark" if DATASET else "results/benchmark"


def earlier(pattern):
    """The pattern of an earlier stage's files, which must be there when that stage's rules are not."""
    for path in expand(pattern, dataset=DATASETS, seed=SEEDS) if ONLY else []:
        if not Path(path).exists():
            hint = "run `dvc pull`, or the stage before"
            stop(BadInput(path, "no such file", f"what stage {ONLY} starts from", hint))
    return pattern


def settings(dataset, *stages):
    """All settings of these stages, as options of their verb."""
    return choices.options(*(getattr(SETTINGS[dataset], stage) for stage in stages))


def options(*stages):
    """The same for the dataset of a job."""

    def of_dataset(wildcards):
        return settings(wildcards.dataset, *stages)

    return of_dataset


def code(stage):
    """Hash of the code and the committed facts that the stage depends on."""

    def of_dataset(wildcards):
        return provenance.code(stage, wildcards.get("dataset", ""))

    return of_dataset
