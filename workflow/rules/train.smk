"""
The models of every dataset, or of a variant's run of it, and seed. A run that was killed goes on from its state.pt, which is no output: it has to outlive
the failure. One thread each, so that the bits do not depend on --cores, and seeds run side by side.

REQUIRED INPUTS:

    data/{dataset}/annotations.json
    data/{dataset}/features/index.json

OUTPUTS:

    models/{run}/seed{seed}/last.safetensors            the model to report
    models/{run}/seed{seed}/best_on_test.safetensors    the best of all looks at the test subset
    models/{run}/seed{seed}/selected.safetensors        with train.held_out: chosen by held-out training videos
    models/{run}/seed{seed}/selected.csv                their loss at every look
    models/{run}/seed{seed}/history.csv                 losses and scores of every look
"""


rule train:
    input:
        expand("models/{run}/seed{seed}/last.safetensors", run=BUILT, seed=SEEDS),


rule train_model:
    input:
        annotations=of_dataset("data/{dataset}/annotations.json"),
        features=of_dataset("data/{dataset}/features/index.json"),
    output:
        last="models/{run}/seed{seed}/last.safetensors",
        best="models/{run}/seed{seed}/best_on_test.safetensors",
        selected="models/{run}/seed{seed}/selected.safetensors" if SELECTED else [],
        looks="models/{run}/seed{seed}/selected.csv" if SELECTED else [],
        history=report(
            "models/{run}/seed{seed}/history.csv",
            caption="../report/history.rst",
            category="Training",
            subcategory="{run}",
            labels={"seed": "{seed}"},
        ),
    log:
        "logs/train/{run}-seed{seed}.log",
    benchmark:
        "logs/train/{run}-seed{seed}.tsv"
    conda:
        "../envs/um.yaml"
    threads: 1
    params:
        dataset=dataset_of,
        out=subpath(output.last, parent=True),
        settings=options("train", "localize", "evaluate"),
        code=code("train"),
    shell:
        r"""
        um train \
            --dataset {params.dataset:q} \
            --seed {wildcards.seed:q} \
            --out {params.out:q} \
            {params.settings:q} \
            2>&1 | tee {log:q}
        """
