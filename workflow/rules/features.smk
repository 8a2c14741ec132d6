"""
Snippet features of every video; resumable, a video that is done stays done. With `--set-scatter shards=K`, K jobs share
the videos: on one machine one after the other, on a cluster at the same time, each with one load of the network.

REQUIRED INPUTS:

    data/{dataset}/videos/index.json
    data/weights/i3d-inception-rgb.safetensors      not for a dataset that comes as features: they are brought

OUTPUTS:

    data/{dataset}/features/index.json      sha256 of spec.json and of every data/{dataset}/features/<subset>/rgb/<id>.npy
"""


rule features:
    input:
        expand("data/{dataset}/features/index.json", dataset=DATASETS),


if SHARDS > 1:

    # They run if extract_features has to, and not for the dates of their inputs: of another number of shards there is no
    # record that could tell a new date from new bytes.
    rule extract_shard:
        input:
            videos=ancient(earlier("data/{dataset}/videos/index.json")),
            weights=ancient(weights_of),
        output:
            temp(touch("data/{dataset}/features/shards/{scatteritem}")),
        log:
            "logs/features/{dataset}-{scatteritem}.log",
        benchmark:
            "logs/features/{dataset}-{scatteritem}.tsv"
        conda:
            "../envs/um.yaml"
        threads: workflow.cores
        params:
            settings=planned("features"),
            code=code("features"),
        shell:
            r"""
            um extract \
                --dataset {wildcards.dataset:q} \
                --shard {wildcards.scatteritem:q} \
                --planned {params.settings:q} \
                2>&1 | tee {log:q}
            """


rule extract_features:
    input:
        shards_of,  # what they have made is taken over as it is
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
        settings=planned("features"),
        code=code("features"),
    shell:
        r"""
        um extract \
            --dataset {wildcards.dataset:q} \
            --planned {params.settings:q} \
            2>&1 | tee {log:q}
        """
