"""
A dataset's annotations and its videos or published features, as described in datasets/<dataset>/dataset.yaml;
resumable, keeps existing files. With `--set-scatter downloads=K`, K jobs share the videos; `--resources connections=N`
limits how many of them run in parallel.

REQUIRED INPUTS:

    datasets/{dataset}/dataset.yaml         and sources.yaml, for a dataset with download links

OUTPUTS:

    data/{dataset}/annotations.json         in ActivityNet's format
    data/{dataset}/videos/index.json        sha256 of every video, data/{dataset}/videos/<subset>/<id>.mp4
"""


rule download:
    input:
        expand("data/{dataset}/annotations.json", dataset=DATASETS),
        expand("data/{dataset}/videos/index.json", dataset=DATASETS),


if DOWNLOADS > 1:

    rule download_shard:
        input:
            "datasets/{dataset}/dataset.yaml",
        output:
            temp(touch("data/{dataset}/downloads/shards/{scatteritem}")),
        log:
            "logs/download/{dataset}-{scatteritem}.log",
        retries: 2
        localrule: True
        resources:
            connections=1,
        params:
            what=what_of,
            settings=planned("download"),
            code=code("download"),
        shell:
            r"""
            um download \
                --dataset {wildcards.dataset:q} \
                --shard {wildcards.scatteritem:q} \
                --connections 1 \
                --what {params.what:q} \
                --planned {params.settings:q} \
                2>&1 | tee -a {log:q}
            """


rule download_dataset:
    input:
        downloads_of,  # their files are kept
        description="datasets/{dataset}/dataset.yaml",
    output:
        annotations="data/{dataset}/annotations.json",
        videos="data/{dataset}/videos/index.json",
    log:
        "logs/download/{dataset}.log",
    localrule: True
    params:
        what=what_of,
        settings=planned("download"),
        code=code("download"),
    shell:
        r"""
        um download \
            --dataset {wildcards.dataset:q} \
            --what {params.what:q} \
            --planned {params.settings:q} \
            2>&1 | tee -a {log:q}
        """
