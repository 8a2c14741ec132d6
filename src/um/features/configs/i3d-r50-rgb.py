"""mmaction2's own I3D with a ResNet-50 on Kinetics-400; its checkpoint is the user's to supply."""

_base_ = "mmaction::recognition/i3d/i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py"

# the checkpoint replaces every weight, so nothing is fetched to start from
model = {"backbone": {"pretrained": None, "pretrained2d": False}}
