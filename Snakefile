"""
From raw videos to the benchmark table.

snakemake --cores all                                        everything, for the datasets of params.yaml
snakemake --cores all --config dataset=NAME                  another dataset of datasets/
snakemake --cores all --config dataset=NAME what=videos      from its videos, instead of published features
snakemake --cores all --config variant=NAME                  a variant of the method listed in params.yaml
snakemake --cores all ablation                               the paper's ablation, on the same datasets
snakemake --cores all report                                 one page with the table, figures and hashes
snakemake --cores all --config only=STAGE -- STAGE           one stage on existing inputs (used by dvc.yaml)

Stages: weights, download, features, train, evaluate, table.
"""

import re

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"


wildcard_constraints:
    dataset="|".join(map(re.escape, DATASETS)),
    run="|".join(map(re.escape, PLAN.runs)),
    seed="|".join(map(str, SEEDS)),


# on a cluster, `--resources gpu=N` does not limit how many jobs of all nodes use a GPU
resource_scopes:
    gpu="local",


if not ONLY:

    rule all:
        input:
            f"{PLAN.table}.html",
            # the table is in git, so a fresh clone has it without its inputs
            expand("results/{run}/seed{seed}/{selection}metrics.json", run=BUILT, seed=SEEDS, selection=PLAN.selections),


for stage in [ONLY] if ONLY else [*plan.STAGES, "ablation", "report"]:

    include: f"workflow/rules/{stage}.smk"
