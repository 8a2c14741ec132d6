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


rule test_last:
    input:
        annotations=of_dataset("data/{dataset}/annotations.json"),
        features=of_dataset("data/{dataset}/features/index.json"),
        model=earlier("models/{run}/seed{seed}/last.safetensors"),
    output:
        predictions="results/{run}/seed{seed}/predictions.json",
        metrics="results/{run}/seed{seed}/metrics.json",
    log:
        "logs/evaluate/{run}-seed{seed}.log",
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


use rule test_last as test_best_on_test with:
    input:
        annotations=of_dataset("data/{dataset}/annotations.json"),
        features=of_dataset("data/{dataset}/features/index.json"),
        model=earlier("models/{run}/seed{seed}/best_on_test.safetensors"),
    output:
        predictions="results/{run}/seed{seed}/best_on_test/predictions.json",
        metrics="results/{run}/seed{seed}/best_on_test/metrics.json",
    log:
        "logs/evaluate/{run}-seed{seed}-best_on_test.log",


if SELECTED:

    use rule test_last as test_selected with:
        input:
            annotations=of_dataset("data/{dataset}/annotations.json"),
            features=of_dataset("data/{dataset}/features/index.json"),
            model=earlier("models/{run}/seed{seed}/selected.safetensors"),
        output:
            predictions="results/{run}/seed{seed}/selected/predictions.json",
            metrics="results/{run}/seed{seed}/selected/metrics.json",
        log:
            "logs/evaluate/{run}-seed{seed}-selected.log",
