"""mmaction2's own I3D with a ResNet-50 on Kinetics-400; bring your own checkpoint."""

_base_ = "mmaction::recognition/i3d/i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py"

# the checkpoint replaces every weight, so do not fetch initial weights
model = {"backbone": {"pretrained": None, "pretrained2d": False}}
