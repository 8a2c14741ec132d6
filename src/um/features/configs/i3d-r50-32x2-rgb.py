"""mmaction2's own I3D with a ResNet-50, on 32 frames as in its training: every other one around a snippet."""

_base_ = "i3d-r50-rgb.py"

clip = {"frames": 32, "stride": 2}
