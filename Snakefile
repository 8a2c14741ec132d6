"""
From raw videos to the benchmark table.

snakemake --cores all                                        everything, for the datasets of params.yaml
snakemake --cores all --config dataset=NAME                  another dataset of datasets/
snakemake --cores all --config only=STAGE -- STAGE           one stage on what is there (this is what dvc.yaml does)

Stages: weights, download, features, train, evaluate, table.
"""


include: "workflow/rules/common.smk"


wildcard_constraints:
    dataset="|".join(map(re.escape, DATASETS)),
    seed="|".join(map(str, SEEDS)),


if not ONLY:

    rule all:
        input:
            f"{TABLE}.html",


for stage in [ONLY] if ONLY else STAGES:

    include: f"workflow/rules/{stage}.smk"
