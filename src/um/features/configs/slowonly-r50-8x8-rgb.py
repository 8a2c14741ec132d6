"""mmaction2's SlowOnly with a ResNet-50: every eighth of the 64 frames around a snippet."""

_base_ = "mmaction::recognition/slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb.py"

checkpoint = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb/"
    "slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb_20220901-2132fc87.pth"
)
clip = {"frames": 8, "stride": 8}
