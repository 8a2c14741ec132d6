"""
A page about the built datasets to share: table, figures, errors, versions and hashes. Built by `snakemake report`; not
a stage of the ledger.

REQUIRED INPUTS:

    data/{dataset}/annotations.json
    data/{dataset}/features/index.json              for magnitudes and examples
    models/{run}/seed{seed}/history.csv
    models/{run}/seed{seed}/last.safetensors
    results/{run}/seed{seed}/{metrics,predictions}.json
    results/{run}/seed{seed}/best_on_test/checkpoints.csv
    results/benchmark.csv

OUTPUTS:

    results/report.html                             results/{run}/report.html with --config dataset or variant
    results/report-figures/{dataset}/*.{svg,png}    likewise
"""

from um.report.figures.captions import CAPTIONS


rule report:
    input:
        expand("data/{dataset}/annotations.json", dataset=DATASETS),
        expand("data/{dataset}/features/index.json", dataset=DATASETS),
        expand("models/{run}/seed{seed}/{name}", run=BUILT, seed=SEEDS, name=["history.csv", "last.safetensors"]),
        expand("results/{run}/seed{seed}/{name}.json", run=BUILT, seed=SEEDS, name=["metrics", "predictions"]),
        expand("results/{run}/seed{seed}/best_on_test/checkpoints.csv", run=BUILT, seed=SEEDS),
        f"{PLAN.table}.csv",
    output:
        pictures=expand(f"{PLAN.report}/report-figures/{{dataset}}/{{name}}.png", dataset=DATASETS, name=CAPTIONS),
        drawings=[
            report(
                f"{PLAN.report}/report-figures/{dataset}/{name}.svg",
                caption=f"../report/{name}.rst",
                category="Figures",
                subcategory=dataset,
                labels={"figure": caption.title},
            )
            for dataset in DATASETS
            for name, caption in CAPTIONS.items()
        ],
        html=report(f"{PLAN.report}/report.html", caption="../report/report.rst", category="Report"),
    log:
        "logs/report.log",
    localrule: True
    params:
        table=subpath(output.html, parent=True),
        figures=subpath(output[0], ancestor=2),
        datasets=words("--dataset", DATASETS),
        variant=PLAN.asked.variant,
        settings=planned("report", lambda wildcards: BUILT),
        seeds=words("--seed", SEEDS),
        code=pipeline.digest_of([Path("src/um/report")]),
    shell:
        r"""
        um report \
            --results results \
            --table {params.table:q} \
            --out {output.html:q} \
            --figures {params.figures:q} \
            {params.datasets:q} \
            --variant {params.variant:q} \
            {params.seeds:q} \
            --planned {params.settings:q} \
            2>&1 | tee -a {log:q}
        """
