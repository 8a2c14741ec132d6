"""mmaction2's X3D-M: every fifth of the 80 frames around a snippet."""

_base_ = "mmaction::recognition/x3d/x3d_m_16x5x1_facebook-kinetics400-rgb.py"

checkpoint = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/x3d/facebook/"
    "x3d_m_16x5x1_facebook-kinetics400-rgb_20201027-3f42382a.pth"
)
clip = {"frames": 16, "stride": 5}
size = {"short_side": 256, "crop": 256}
