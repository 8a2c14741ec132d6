"""
From raw videos to the benchmark table.

snakemake --cores all                                        everything, for the datasets of params.yaml
snakemake --cores all --config dataset=NAME                  another dataset of datasets/
snakemake --cores all --config dataset=NAME what=videos      from its videos, instead of published features
snakemake --cores all --config variant=NAME                  a variant of the method listed in params.yaml
snakemake --cores all ablation                               the paper's ablation, on the same datasets
snakemake --cores all report                                 one page with the table, figures and hashes
snakemake --cores all --config only=STAGE -- STAGE           one stage on existing inputs (used by dvc.yaml)

Stages: weights, download, features, train, evaluate, rows, table.
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


for stage in [ONLY] if ONLY else [*plan.STAGES, "ablation", "report"]:

    include: f"workflow/rules/{stage}.smk"


if ONLY:
    USED = PLAN.used(ONLY)

    onsuccess:
        # DVC hashes settings and code when the stage has ended, and would record its outputs as made with them
        if PLAN.used(ONLY) != USED:
            refuse(BadInput("params.yaml, src/ or workflow/", f"edits during stage {ONLY}", "none", "run it again"))

else:

    rule all:
        """All outputs of all stages: a lost one is built again. Videos that DVC does not store may be absent."""
        default_target: True
        input:
            str(WEIGHTS) if PLAN.from_videos else [],
            expand("data/{dataset}/videos/index.json", dataset=PLAN.stored),
            expand("data/{dataset}/annotations.json", dataset=DATASETS),
            rules.features.input,
            rules.train.input,
            rules.evaluate.input,
            rules.rows.input,
            multiext(PLAN.table, ".csv", ".html", ".md", ".tex"),
