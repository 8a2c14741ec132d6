"""
What the rules share: the plan of um.plan, and how a job's wildcards lead to its files and settings.

REQUIRED INPUTS:

    params.yaml     every scientific choice
    dvc.yaml        which files of src/ and datasets/ each stage depends on
"""

import sys
from functools import cache

from um import plan
from um.errors import BadInput
from um.features.weights import WEIGHTS
from um.params import digests, run_name
from um.provenance import pipeline

try:
    PLAN = plan.Plan(plan.Asked.read(config, workflow.config_settings.config_args or ()))
except BadInput as error:
    print(f"um: {error}", file=sys.stderr)
    sys.exit(2)

ONLY, DATASETS, BUILT, SEEDS = PLAN.asked.only, PLAN.datasets, PLAN.built, PLAN.seeds


# How many jobs share an extraction or a download is the machine's choice: `--set-scatter shards=K downloads=K`, or
# `set-scatter` in a profile.
scattergather:
    shards=1,
    downloads=1,


SHARDS = len(gather.shards("{scatteritem}"))
DOWNLOADS = len(gather.downloads("{scatteritem}"))


def earlier(pattern):
    """The pattern of an earlier stage's files; ends with one line if they have to be there and are not."""
    try:
        return PLAN.earlier(pattern)
    except BadInput as error:
        print(f"um: {error}", file=sys.stderr)
        sys.exit(2)


def of_dataset(pattern):
    """The same for a file of the dataset that a job's run belongs to."""

    def of_run(wildcards):
        return pattern.format(dataset=PLAN.runs[wildcards.run])

    earlier(pattern)
    return of_run


def model_of(wildcards):
    """The model, or the index of checkpoints, that a job's folder of results is about."""
    return f"models/{wildcards.run}/seed{wildcards.seed}/{plan.MODELS[wildcards.selection]}"


def dataset_of(wildcards):
    """The dataset that a job's run belongs to."""
    return PLAN.runs[wildcards.run]


def variant_of(wildcards):
    """The variant that a job's run trains."""
    return PLAN.variants[wildcards.run]


def downloads_of(wildcards):
    """The marks of the jobs that share a dataset's download, if there are several."""
    if DOWNLOADS < 2 or wildcards.dataset not in PLAN.shared:
        return []
    return gather.downloads("data/{dataset}/downloads/shards/{scatteritem}", dataset=wildcards.dataset)


def weights_of(wildcards):
    """The backbone's weights, for a dataset whose features are extracted."""
    return earlier(str(WEIGHTS)) if wildcards.dataset in PLAN.from_videos else []


def shards_of(wildcards):
    """The marks of the jobs that share a dataset's extraction, if there are several."""
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
    """An option for each of the values, as the words of a command line."""
    return [word for value in values for word in (option, str(value))]


def of_job(wildcards):
    """The one run, or dataset, of a job."""
    return [wildcards.get("run") or wildcards.dataset]


def planned(stage, runs=of_job):
    """Digest of all settings that the stage depends on, for the runs of a job, which compares it when it begins."""

    def digest(wildcards):
        return digests(stage, [PLAN.settings[run] for run in runs(wildcards)])

    return digest


def what_of(wildcards):
    """What is downloaded of a dataset: videos or features."""
    return PLAN.settings[wildcards.dataset].download.what


code_of = cache(pipeline.code)  # the same for all jobs of a plan, which may be thousands


def code(stage):
    """Hash of the code and the committed facts that the stage depends on."""

    def digest(wildcards):
        return code_of(stage, wildcards.get("dataset", ""))

    return digest
