"""mmaction2's SlowFast with a ResNet-50: every other one of the 64 frames around a snippet; slow pathway first."""

_base_ = "mmaction::recognition/slowfast/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb.py"

checkpoint = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/slowfast/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb/"
    "slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb_20220818-1cb6dfc8.pth"
)
clip = {"frames": 32, "stride": 2}
