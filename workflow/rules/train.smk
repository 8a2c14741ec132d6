"""
The models of every run and seed. A killed training resumes from its state.pt, which is not an output, because Snakemake
would delete it on failure. One thread each, so that bytes do not depend on --cores and seeds run in parallel.

REQUIRED INPUTS:

    data/{dataset}/annotations.json
    data/{dataset}/features/index.json

OUTPUTS:

    models/{run}/seed{seed}/last.safetensors            the model to report
    models/{run}/seed{seed}/history.csv                 its losses
    models/{run}/seed{seed}/checkpoints/index.json      sha256 of the checkpoints beside it, one per evaluation
    models/{run}/seed{seed}/selected.safetensors        with train.held_out: chosen by held-out training videos
    models/{run}/seed{seed}/selected.csv                their loss at every evaluation
"""


rule train:
    """All models."""
    input:
        expand("models/{run}/seed{seed}/{file}", run=BUILT, seed=SEEDS, file=PLAN.trained_files),


rule train_model:
    """Train one run with one seed."""
    input:
        annotations=of_dataset("data/{dataset}/annotations.json"),
        features=of_dataset("data/{dataset}/features/index.json"),
    output:
        last="models/{run}/seed{seed}/last.safetensors",
        checkpoints="models/{run}/seed{seed}/checkpoints/index.json",
        selected="models/{run}/seed{seed}/selected.safetensors" if "selected/" in PLAN.selections else [],
        losses="models/{run}/seed{seed}/selected.csv" if "selected/" in PLAN.selections else [],
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
    threads: 1
    resources:
        mem_mb=growing(16000),  # measured peaks: 480 in the demo, 11,800 with simulated ActivityNet 1.3
        runtime=growing(240),  # measured: 2 in the demo; a stopped job resumes at its last evaluation
        gpu=GPU,
    params:
        dataset=dataset_of,
        variant=variant_of,
        out=subpath(output.last, parent=True),
        settings=planned("train"),
        code=code("train"),
    shell:
        r"""
        um --gpus {resources.gpu:q} train \
            --dataset {params.dataset:q} \
            --variant {params.variant:q} \
            --seed {wildcards.seed:q} \
            --out {params.out:q} \
            --planned {params.settings:q} \
            2>&1 | tee -a {log:q}
        """


if ONLY == "train":  # DVC keeps the folder, so that finished seeds survive a kill
    jobs.distrust(jobs.strange(expand("models/{run}/seed{seed}/last.safetensors", run=BUILT, seed=SEEDS)))
