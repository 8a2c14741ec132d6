"""
Predictions and scores of every model: of the last iteration, of the one that was best on the test subset, and
of the one that held-out training videos chose.

REQUIRED INPUTS:

    data/{dataset}/annotations.json
    data/{dataset}/features/index.json
    models/{run}/seed{seed}/{last,best_on_test,selected}.safetensors

OUTPUTS:

    results/{run}/seed{seed}/{predictions,metrics}.json
    results/{run}/seed{seed}/{best_on_test,selected}/{predictions,metrics}.json
"""


rule evaluate:
    input:
        expand("results/{run}/seed{seed}/{selection}metrics.json", run=BUILT, seed=SEEDS, selection=SELECTIONS),


for selection in SELECTIONS:
    earlier(model_file("{run}", "{seed}", selection))


rule test_model:
    """Localise with one model of a seed, and score that."""
    input:
        annotations=of_dataset("data/{dataset}/annotations.json"),
        features=of_dataset("data/{dataset}/features/index.json"),
        model=lambda wildcards: model_file(wildcards.run, wildcards.seed, wildcards.selection),
    output:
        predictions="results/{run}/seed{seed}/{selection}predictions.json",
        metrics="results/{run}/seed{seed}/{selection}metrics.json",
    log:
        "logs/evaluate/{run}-seed{seed}/{selection}um.log",
    wildcard_constraints:
        selection="|".join(SELECTIONS),
    conda:
        "../envs/um.yaml"
    threads: 1
    params:
        dataset=dataset_of,
        out=subpath(output.metrics, parent=True),
        settings=options("localize", "evaluate"),
        code=code("evaluate"),
    shell:
        r"""
        um test \
            --dataset {params.dataset:q} \
            --model-file {input.model:q} \
            --out {params.out:q} \
            {params.settings:q} \
            2>&1 | tee {log:q}
        """
