"""
One model per dataset and seed. A run that was killed goes on from its state.pt, which is no output: it has to outlive
the failure. One thread each, so that the bits do not depend on --cores, and seeds run side by side.

REQUIRED INPUTS:

    data/{dataset}/annotations.json
    data/{dataset}/features/index.json

OUTPUTS:

    models/{dataset}/seed{seed}/last.safetensors            the model to report
    models/{dataset}/seed{seed}/best_on_test.safetensors    the best of all looks at the test subset
    models/{dataset}/seed{seed}/history.csv                 losses and scores of every look
"""


rule train:
    input:
        expand("models/{dataset}/seed{seed}/last.safetensors", dataset=DATASETS, seed=SEEDS),


rule train_model:
    input:
        annotations=earlier("data/{dataset}/annotations.json"),
        features=earlier("data/{dataset}/features/index.json"),
    output:
        last="models/{dataset}/seed{seed}/last.safetensors",
        best="models/{dataset}/seed{seed}/best_on_test.safetensors",
        history=report(
            "models/{dataset}/seed{seed}/history.csv",
            caption="../report/history.rst",
            category="Training",
            subcategory="{dataset}",
            labels={"seed": "{seed}"},
        ),
    log:
        "logs/train/{dataset}-seed{seed}.log",
    benchmark:
        "logs/train/{dataset}-seed{seed}.tsv"
    conda:
        "../envs/um.yaml"
    threads: 1
    params:
        out=subpath(output.last, parent=True),
        settings=options("train", "localize", "evaluate"),
        code=code("train"),
    shell:
        r"""
        um train \
            --dataset {wildcards.dataset:q} \
            --seed {wildcards.seed:q} \
            --out {params.out:q} \
            {params.settings:q} \
            2>&1 | tee {log:q}
        """
