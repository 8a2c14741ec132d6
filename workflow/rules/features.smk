"""
Snippet features of every video; resumable, a video that is done stays done.

REQUIRED INPUTS:

    data/{dataset}/videos/index.json
    data/weights/i3d-inception-rgb.safetensors      not for a dataset that comes as features: they are brought

OUTPUTS:

    data/{dataset}/features/index.json      sha256 of spec.json and of every data/{dataset}/features/<subset>/rgb/<id>.npy
"""


rule features:
    input:
        expand("data/{dataset}/features/index.json", dataset=DATASETS),


rule extract_features:
    input:
        videos=earlier("data/{dataset}/videos/index.json"),
        weights=weights_of,
    output:
        "data/{dataset}/features/index.json",
    log:
        "logs/features/{dataset}.log",
    benchmark:
        "logs/features/{dataset}.tsv"
    conda:
        "../envs/um.yaml"
    threads: workflow.cores
    params:
        settings=options("features"),
        code=code("features"),
    shell:
        r"""
        um extract \
            --dataset {wildcards.dataset:q} \
            {params.settings:q} \
            2>&1 | tee {log:q}
        """
