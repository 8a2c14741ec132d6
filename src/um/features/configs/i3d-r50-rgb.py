"""mmaction2's own I3D with a ResNet-50 on Kinetics-400, on a snippet's own frames."""

_base_ = "mmaction::recognition/i3d/i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py"

checkpoint = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/i3d/"
    "i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb/"
    "i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb_20220812-e213c223.pth"
)
