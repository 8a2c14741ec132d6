"""mmaction2's X3D-S: every sixth of the 78 frames around a snippet."""

_base_ = "mmaction::recognition/x3d/x3d_s_13x6x1_facebook-kinetics400-rgb.py"

checkpoint = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/x3d/facebook/"
    "x3d_s_13x6x1_facebook-kinetics400-rgb_20201027-623825a0.pth"
)
clip = {"frames": 13, "stride": 6}
size = {"short_side": 182, "crop": 182}
