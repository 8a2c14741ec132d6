"""
Snippet features of every video; resumable, keeps finished videos. With `--set-scatter shards=K`, K jobs share the
videos: in turn on one machine, in parallel on several GPUs or a cluster. Each job loads the network once.

REQUIRED INPUTS:

    data/{dataset}/videos/index.json
    data/weights/i3d-inception-rgb.safetensors      only to extract features, not to import published ones

OUTPUTS:

    data/{dataset}/features/index.json      sha256 of spec.json and of every data/{dataset}/features/<subset>/rgb/<id>.npy
"""


rule features:
    input:
        expand("data/{dataset}/features/index.json", dataset=DATASETS),


CPUS = 4 if GPU else 16  # Snakemake lowers it to --cores; the features' bytes do not depend on it
MEGABYTES = 4000  # measured peak: 1080, for a video of the demo on a CPU
MINUTES = 720  # a stopped job resumes at its video


if SHARDS > 1:

    # ancient: shards run only if extract_features does. Snakemake has no record of another number of shards that could
    # tell new dates of the inputs from new content.
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
        threads: CPUS
        resources:
            mem_mb=growing(MEGABYTES),
            runtime=growing(MINUTES),
            gpu=GPU,
        params:
            settings=planned("features"),
            code=code("features"),
        shell:
            r"""
            um --gpus {resources.gpu:q} extract \
                --dataset {wildcards.dataset:q} \
                --shard {wildcards.scatteritem:q} \
                --planned {params.settings:q} \
                2>&1 | tee -a {log:q}
            """


rule extract_features:
    input:
        shards_of,  # their files are kept
        videos=earlier("data/{dataset}/videos/index.json"),
        weights=weights_of,
    output:
        "data/{dataset}/features/index.json",
    log:
        "logs/features/{dataset}.log",
    benchmark:
        "logs/features/{dataset}.tsv"
    threads: CPUS
    resources:
        mem_mb=growing(MEGABYTES),
        runtime=growing(MINUTES),
        gpu=GPU,
    params:
        settings=planned("features"),
        code=code("features"),
    shell:
        r"""
        um --gpus {resources.gpu:q} extract \
            --dataset {wildcards.dataset:q} \
            --planned {params.settings:q} \
            2>&1 | tee -a {log:q}
        """
