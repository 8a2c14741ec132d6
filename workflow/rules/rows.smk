"""
The rows of every run in the benchmark table, and what `dvc metrics` and `dvc plots` show of it.

REQUIRED INPUTS:

    data/{dataset}/annotations.json         for the controls, and the intervals
    data/{dataset}/features/index.json      and spec.json, for a note below the table
    models/{run}/seed{seed}/history.csv
    results/{run}/seed{seed}/{metrics,predictions}.json
    results/{run}/seed{seed}/{best_on_test,selected}/{metrics,predictions}.json
    results/{run}/seed{seed}/best_on_test/checkpoints.csv

OUTPUTS:

    tables/{run}/rows.json          figures and notes
    tables/{run}/metrics.json       means over the seeds
    tables/{run}/losses.csv         by iteration
    tables/{run}/scores.csv         average mAP on the test subset by iteration
    tables/{run}/confusion.csv      actual and predicted classes of the test videos
"""


rule rows:
    """The rows of all runs."""
    input:
        expand(
            f"{PLAN.tables}/{{run}}/{{file}}",
            run=BUILT,
            file=["rows.json", "metrics.json", "losses.csv", "scores.csv", "confusion.csv"],
        ),


rule rows_of_run:
    """The rows of one run."""
    input:
        annotations=of_dataset("data/{dataset}/annotations.json"),
        features=of_dataset("data/{dataset}/features/index.json"),
        losses=expand(earlier("models/{run}/seed{seed}/history.csv"), seed=SEEDS, allow_missing=True),
        scores=expand(earlier("results/{run}/seed{seed}/best_on_test/checkpoints.csv"), seed=SEEDS, allow_missing=True),
        results=[
            expand(earlier(f"results/{{run}}/seed{{seed}}/{selection}{name}.json"), seed=SEEDS, allow_missing=True)
            for selection in PLAN.selections
            for name in ("metrics", "predictions")
        ],
    output:
        multiext(f"{PLAN.tables}/{{run}}/", "metrics.json", "losses.csv", "scores.csv", "confusion.csv"),
        rows=f"{PLAN.tables}/{{run}}/rows.json",
    log:
        "logs/rows/{run}.log",
    threads: 1
    resources:
        mem_mb=growing(4000),  # measured on the demo: 400
        runtime=60,
    params:
        dataset=dataset_of,
        variant=variant_of,
        out=subpath(output.rows, parent=True),
        settings=planned("rows"),
        seeds=words("--seed", SEEDS),
        code=code("rows"),
    shell:
        r"""
        um rows \
            --dataset {params.dataset:q} \
            --variant {params.variant:q} \
            --out {params.out:q} \
            {params.seeds:q} \
            --planned {params.settings:q} \
            2>&1 | tee -a {log:q}
        """
