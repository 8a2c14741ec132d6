"""
Predictions and scores of every model: after the last iteration, the best checkpoint on the test subset, and the one
chosen by held-out training videos.

REQUIRED INPUTS:

    data/{dataset}/annotations.json
    data/{dataset}/features/index.json
    models/{run}/seed{seed}/{last,selected}.safetensors
    models/{run}/seed{seed}/checkpoints/index.json

OUTPUTS:

    results/{run}/seed{seed}/{predictions,metrics}.json
    results/{run}/seed{seed}/{selected,best_on_test}/       the same of the other models
    results/{run}/seed{seed}/best_on_test/checkpoints.csv   scores of every checkpoint
"""


rule evaluate:
    """All scores."""
    input:
        expand("results/{run}/seed{seed}/best_on_test/checkpoints.csv", run=BUILT, seed=SEEDS),
        expand(
            "results/{run}/seed{seed}/{selection}{name}.json",
            run=BUILT,
            seed=SEEDS,
            selection=PLAN.selections,
            name=["metrics", "predictions"],
        ),


for selection in PLAN.selections:
    earlier(f"models/{{run}}/seed{{seed}}/{plan.MODELS[selection]}")


rule test_model:
    """Localise with one model of a seed, and score the predictions."""
    input:
        annotations=of_dataset("data/{dataset}/annotations.json"),
        features=of_dataset("data/{dataset}/features/index.json"),
        model=model_of,
    output:
        predictions="results/{run}/seed{seed}/{selection}predictions.json",
        metrics="results/{run}/seed{seed}/{selection}metrics.json",
    log:
        "logs/evaluate/{run}-seed{seed}/{selection}um.log",
    benchmark:
        "logs/evaluate/{run}-seed{seed}/{selection}um.tsv"
    wildcard_constraints:
        selection="(selected/)?",
    threads: 1
    resources:
        mem_mb=growing(2000),  # measured peak: 330 in the demo
        runtime=growing(60),  # measured: less than 1 in the demo
    params:
        dataset=dataset_of,
        variant=variant_of,
        out=subpath(output.metrics, parent=True),
        settings=planned("evaluate"),
        code=code("evaluate"),
    shell:
        r"""
        um test \
            --dataset {params.dataset:q} \
            --variant {params.variant:q} \
            --model-file {input.model:q} \
            --out {params.out:q} \
            --planned {params.settings:q} \
            2>&1 | tee -a {log:q}
        """


use rule test_model as test_checkpoints with:
    """Score every checkpoint of a seed, and keep the results of the best on the test subset."""
    output:
        predictions="results/{run}/seed{seed}/{selection}predictions.json",
        metrics="results/{run}/seed{seed}/{selection}metrics.json",
        history=report(
            "results/{run}/seed{seed}/{selection}checkpoints.csv",
            caption="../report/checkpoints.rst",
            category="Evaluation",
            subcategory="{run}",
            labels={"seed": "{seed}"},
        ),
    wildcard_constraints:
        selection="best_on_test/",


if ONLY == "evaluate":  # DVC keeps the folder, so that finished seeds survive a kill
    jobs.distrust(
        jobs.strange(
            expand("results/{run}/seed{seed}/{selection}metrics.json", run=BUILT, seed=SEEDS, selection=PLAN.selections)
        )
    )
