"""
From raw videos to the benchmark table.

snakemake --cores all                                        everything, for the datasets of params.yaml
snakemake --cores all --config dataset=NAME                  another dataset of datasets/
snakemake --cores all --config dataset=NAME what=videos      from its videos, where params.yaml says published features
snakemake --cores all --config variant=NAME                  another form of the method, one of params.yaml's variants
snakemake --cores all ablation                               the paper's ablation, on the same datasets
snakemake --cores all --config only=STAGE -- STAGE           one stage on what is there (this is what dvc.yaml does)

Stages: weights, download, features, train, evaluate, table.
"""

import re


include: "workflow/rules/common.smk"


wildcard_constraints:
    dataset="|".join(map(re.escape, DATASETS)),
    run="|".join(map(re.escape, PLAN.runs)),
    seed="|".join(map(str, SEEDS)),


if not ONLY:

    rule all:
        input:
            f"{PLAN.table}.html",
            # git keeps the table: in a fresh clone it is there, and what it is made from is not
            expand("results/{run}/seed{seed}/{selection}metrics.json", run=BUILT, seed=SEEDS, selection=PLAN.selections),


for stage in [ONLY] if ONLY else [*plan.STAGES, "ablation"]:

    include: f"workflow/rules/{stage}.smk"
