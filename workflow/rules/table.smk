"""
The benchmark table.

REQUIRED INPUTS:

    tables/{run}/rows.json

OUTPUTS:

    results/benchmark.{csv,md,html,tex}     results/{run}/benchmark.* with --config dataset or variant
"""


rule table:
    input:
        expand(earlier(f"{PLAN.tables}/{{run}}/rows.json"), run=BUILT),
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
        runs=BUILT,
        rows=subpath(input[0], ancestor=2),
        seeds=words("--seed", SEEDS),
        code=code("table"),
    shell:
        r"""
        um table \
            --rows {params.rows:q} \
            --out {params.out:q} \
            {params.datasets:q} \
            --variant {params.variant:q} \
            {params.seeds:q} \
            2>&1 | tee -a {log:q}
        """
