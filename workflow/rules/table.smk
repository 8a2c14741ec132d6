"""
The benchmark table.

REQUIRED INPUTS:

    data/{dataset}/annotations.json         for the whole-video row, and the intervals
    data/{dataset}/features/index.json      and spec.json, for a note below the table
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
            for selection in PLAN.selections
            for name in ("metrics", "predictions")
        ],
    output:
        multiext(PLAN.table, ".csv", ".md", ".tex"),
        html=report(f"{PLAN.table}.html", caption="../report/benchmark.rst", category="Benchmark"),
    log:
        "logs/table.log",
    localrule: True
    params:
        out=subpath(output.html, parent=True),
        datasets=words("--dataset", DATASETS),
        variant=PLAN.asked.variant,
        settings=planned("table", lambda wildcards: BUILT),
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
            --planned {params.settings:q} \
            2>&1 | tee -a {log:q}
        """
