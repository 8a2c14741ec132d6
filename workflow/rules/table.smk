"""
The benchmark table.

REQUIRED INPUTS:

    data/{dataset}/annotations.json         for the row of whole videos, and the intervals
    data/{dataset}/features/index.json      its spec.json is a note of the table
    results/{run}/seed{seed}/{metrics,predictions}.json
    results/{run}/seed{seed}/{best_on_test,selected}/{metrics,predictions}.json

OUTPUTS:

    results/benchmark.{csv,md,html,tex}     results/{run}/benchmark.* with --config dataset or variant
"""


rule table:
    input:
        expand(earlier("data/{dataset}/annotations.json"), dataset=DATASETS),
        expand(earlier("data/{dataset}/features/index.json"), dataset=DATASETS),
        [
            expand(earlier(f"results/{{run}}/seed{{seed}}/{selection}{name}.json"), run=BUILT, seed=SEEDS)
            for selection in SELECTIONS
            for name in ("metrics", "predictions")
        ],
    output:
        multiext(TABLE, ".csv", ".md", ".tex"),
        html=report(f"{TABLE}.html", caption="../report/benchmark.rst", category="Benchmark"),
    log:
        "logs/table.log",
    conda:
        "../envs/um.yaml"
    params:
        out=subpath(output.html, parent=True),
        datasets=words("--dataset", DATASETS),
        variant=VARIANT,
        settings=[settings(run, "train", "evaluate") for run in BUILT],
        seeds=words("--seed", SEEDS),
        code=code("table"),
    shell:
        r"""
        um table \
            --results results \
            --out {params.out:q} \
            {params.datasets:q} \
            --variant {params.variant:q} \
            {params.seeds:q} \
            2>&1 | tee {log:q}
        """
