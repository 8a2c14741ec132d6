"""mmaction2's own I3D with a ResNet-50, on 32 frames as in its training: every other one around a snippet."""

_base_ = "mmaction::recognition/i3d/i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py"

clip = {"frames": 32, "stride": 2}
model = {"backbone": {"pretrained": None, "pretrained2d": False}}
