"""
A dataset's annotations and videos, as its datasets/<dataset>/dataset.yaml says.

REQUIRED INPUTS:

    datasets/{dataset}/dataset.yaml

OUTPUTS:

    data/{dataset}/annotations.json         ActivityNet form
    data/{dataset}/videos/index.json        sha256 of every video, data/{dataset}/videos/<subset>/<id>.mp4
"""


rule download:
    input:
        expand("data/{dataset}/annotations.json", dataset=DATASETS),
        expand("data/{dataset}/videos/index.json", dataset=DATASETS),


rule download_dataset:
    input:
        "datasets/{dataset}/dataset.yaml",
    output:
        annotations="data/{dataset}/annotations.json",
        videos="data/{dataset}/videos/index.json",
    log:
        "logs/download/{dataset}.log",
    conda:
        "../envs/um.yaml"
    params:
        settings=options("download"),
        code=code("download"),
    shell:
        r"""
        um download \
            --dataset {wildcards.dataset:q} \
            {params.settings:q} \
            2>&1 | tee {log:q}
        """
