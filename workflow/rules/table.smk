"""
The benchmark table.

REQUIRED INPUTS:

    data/{dataset}/annotations.json         for the row of whole videos, and the intervals
    data/{dataset}/features/index.json      its spec.json is a note of the table
    results/{dataset}/seed{seed}/{predictions,metrics}.json
    results/{dataset}/seed{seed}/best_on_test/{predictions,metrics}.json

OUTPUTS:

    results/benchmark.{csv,md,html,tex}     results/{dataset}/benchmark.* with --config dataset={dataset}
"""


rule table:
    input:
        expand(earlier("data/{dataset}/annotations.json"), dataset=DATASETS),
        expand(earlier("data/{dataset}/features/index.json"), dataset=DATASETS),
        expand(earlier("results/{dataset}/seed{seed}/metrics.json"), dataset=DATASETS, seed=SEEDS),
        expand(earlier("results/{dataset}/seed{seed}/predictions.json"), dataset=DATASETS, seed=SEEDS),
        expand(earlier("results/{dataset}/seed{seed}/best_on_test/metrics.json"), dataset=DATASETS, seed=SEEDS),
        expand(earlier("results/{dataset}/seed{seed}/best_on_test/predictions.json"), dataset=DATASETS, seed=SEEDS),
    output:
        multiext(TABLE, ".csv", ".md", ".tex"),
        html=report(f"{TABLE}.html", caption="../report/benchmark.rst", category="Benchmark"),
    log:
        "logs/table.log",
    conda:
        "../envs/um.yaml"
    params:
        out=subpath(output.html, parent=True),
        datasets=expand("--dataset {dataset}", dataset=DATASETS),
        settings=[settings(dataset, "train", "evaluate") for dataset in DATASETS],
        seeds=SEEDS,
        code=code("table"),
    shell:
        r"""
        um table \
            --results results \
            --out {params.out:q} \
            {params.datasets} \
            2>&1 | tee {log:q}
        """
