"""
The paper's ablation (Lee et al., AAAI 2021, table 3) on any dataset: softmax, fusion, + L_um, + L_be, beside the
published rows; then `ours` and `ours` without one ingredient each. Built by `snakemake ablation`; not a stage of the
ledger.

REQUIRED INPUTS:

    data/{dataset}/annotations.json
    results/{run}/seed{seed}/metrics.json       one run per row

OUTPUTS:

    results/{dataset}-ablation/ablation.{csv,md,html,tex}
"""


rule ablation:
    input:
        expand("results/{dataset}-ablation/ablation.html", dataset=DATASETS),


rule ablation_table:
    input:
        results_of_rows,
        annotations="data/{dataset}/annotations.json",
        features="data/{dataset}/features/index.json",
    output:
        multiext("results/{dataset}-ablation/ablation", ".csv", ".md", ".tex"),
        html=report(
            "results/{dataset}-ablation/ablation.html",
            caption="../report/benchmark.rst",
            category="Ablation",
            subcategory="{dataset}",
        ),
    log:
        "logs/ablation/{dataset}.log",
    localrule: True
    params:
        out=subpath(output.html, parent=True),
        variants=words("--variant", plan.ABLATION),
        settings=planned("rows", rows_of),
        seeds=words("--seed", SEEDS),
        code=code("table"),
    shell:
        r"""
        um ablation \
            --results results \
            --out {params.out:q} \
            --dataset {wildcards.dataset:q} \
            {params.variants:q} \
            {params.seeds:q} \
            --planned {params.settings:q} \
            2>&1 | tee -a {log:q}
        """
