"""
Shared by all rules: the plan of um.plan, and functions from a job's wildcards to its files and settings.

REQUIRED INPUTS:

    params.yaml     every scientific choice
    dvc.yaml        the files of src/ and datasets/ that each stage depends on
"""

import sys
from functools import cache

from um import plan
from um.errors import BadInput
from um.features.weights import WEIGHTS
from um.params import digests, run_name
from um.provenance import jobs, pipeline, tools


def refuse(error):
    """End with a one-line error."""
    print(f"um: {error}", file=sys.stderr)
    sys.exit(2)


try:
    tools.check_checkout("snakemake")
    PLAN = plan.Plan(plan.Asked.read(config, workflow.config_settings.config_args or ()))
    PLAN.check_files()
except BadInput as error:
    refuse(error)

ONLY, DATASETS, BUILT, SEEDS = PLAN.asked.only, PLAN.datasets, PLAN.built, PLAN.seeds


# Number of jobs per extraction or download: set by `--set-scatter shards=K downloads=K`, or `set-scatter` in a profile.
scattergather:
    shards=1,
    downloads=1,


SHARDS = len(gather.shards("{scatteritem}"))
DOWNLOADS = len(gather.downloads("{scatteritem}"))


# One GPU per job, if the call says how many there are (`--resources gpu=2`). The profile of a cluster sets it per rule.
GPU = int("gpu" in workflow.resource_settings.resources)


def growing(amount):
    """A resource that each attempt of a job multiplies."""

    def of_attempt(wildcards, attempt):
        return attempt * amount

    return of_attempt


def earlier(pattern):
    """The path pattern of an earlier stage's files; exits with a one-line error if required files are missing."""
    try:
        return PLAN.earlier(pattern)
    except BadInput as error:
        refuse(error)


def of_dataset(pattern):
    """Like `earlier`, for a file of the dataset of a job's run."""

    def of_run(wildcards):
        return pattern.format(dataset=PLAN.runs[wildcards.run])

    earlier(pattern)
    return of_run


def model_of(wildcards):
    """The model, or index of checkpoints, scored by a job."""
    return f"models/{PLAN.trained[wildcards.run]}/seed{wildcards.seed}/{plan.MODELS[wildcards.selection]}"


def dataset_of(wildcards):
    """The dataset of a job's run."""
    return PLAN.runs[wildcards.run]


def variant_of(wildcards):
    """The variant of a job's run."""
    return PLAN.variants[wildcards.run]


def downloads_of(wildcards):
    """Markers of the jobs that share a dataset's download, if there are several."""
    if DOWNLOADS < 2 or wildcards.dataset not in PLAN.shared:
        return []
    return gather.downloads("data/{dataset}/downloads/shards/{scatteritem}", dataset=wildcards.dataset)


def weights_of(wildcards):
    """The backbone's weights, if the dataset's features are extracted."""
    return earlier(str(WEIGHTS)) if wildcards.dataset in PLAN.from_videos else []


def shards_of(wildcards):
    """Markers of the jobs that share a dataset's extraction, if there are several."""
    if SHARDS < 2 or wildcards.dataset not in PLAN.from_videos:
        return []
    return gather.shards("data/{dataset}/features/shards/{scatteritem}", dataset=wildcards.dataset)


def rows_of(wildcards):
    """The runs of a dataset's ablation."""
    return [run_name(wildcards.dataset, variant) for variant in plan.ABLATION]


def results_of_rows(wildcards):
    """Scores and predictions of every row of a dataset's ablation."""
    names = ["metrics", "predictions"]
    return expand("results/{run}/seed{seed}/{name}.json", run=rows_of(wildcards), seed=SEEDS, name=names)


def words(option, values):
    """Command-line words that repeat an option for each value."""
    return [word for value in values for word in (option, str(value))]


def of_job(wildcards):
    """The run or dataset of a job."""
    return [wildcards.get("run") or wildcards.dataset]


def planned(stage, runs=of_job):
    """Digest of all settings that the stage depends on, for a job's runs; the job compares it at its start."""

    def digest(wildcards):
        return digests(stage, [PLAN.settings[run] for run in runs(wildcards)])

    return digest


def what_of(wildcards):
    """What to download of a dataset: videos or features."""
    return PLAN.settings[wildcards.dataset].download.what


code_of = cache(pipeline.code)  # equal for all jobs, possibly thousands


def code(stage):
    """Hash of the code and committed data that the stage depends on."""

    def digest(wildcards):
        return code_of(stage, wildcards.get("dataset", ""))

    return digest
