"""
Predictions and scores of every model: of the last iteration, and of the one that was best on the test subset.

REQUIRED INPUTS:

    data/{dataset}/annotations.json
    data/{dataset}/features/index.json
    models/{dataset}/seed{seed}/{last,best_on_test}.safetensors

OUTPUTS:

    results/{dataset}/seed{seed}/{predictions,metrics}.json
    results/{dataset}/seed{seed}/best_on_test/{predictions,metrics}.json
"""


rule evaluate:
    input:
        expand("results/{dataset}/seed{seed}/metrics.json", dataset=DATASETS, seed=SEEDS),
        expand("results/{dataset}/seed{seed}/best_on_test/metrics.json", dataset=DATASETS, seed=SEEDS),


rule test_last:
    input:
        annotations=earlier("data/{dataset}/annotations.json"),
        features=earlier("data/{dataset}/features/index.json"),
        model=earlier("models/{dataset}/seed{seed}/last.safetensors"),
    output:
        predictions="results/{dataset}/seed{seed}/predictions.json",
        metrics="results/{dataset}/seed{seed}/metrics.json",
    log:
        "logs/evaluate/{dataset}-seed{seed}.log",
    conda:
        "../envs/um.yaml"
    threads: 1
    params:
        out=subpath(output.metrics, parent=True),
        settings=options("localize", "evaluate"),
        code=code("evaluate"),
    shell:
        r"""
        um test \
            --dataset {wildcards.dataset:q} \
            --model-file {input.model:q} \
            --out {params.out:q} \
            {params.settings:q} \
            2>&1 | tee {log:q}
        """


use rule test_last as test_best_on_test with:
    input:
        annotations=earlier("data/{dataset}/annotations.json"),
        features=earlier("data/{dataset}/features/index.json"),
        model=earlier("models/{dataset}/seed{seed}/best_on_test.safetensors"),
    output:
        predictions="results/{dataset}/seed{seed}/best_on_test/predictions.json",
        metrics="results/{dataset}/seed{seed}/best_on_test/metrics.json",
    log:
        "logs/evaluate/{dataset}-seed{seed}-best_on_test.log",
