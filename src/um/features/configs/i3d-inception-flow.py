"""Two-stream I3D's optical-flow network; flow is clipped to ±20 pixels and stored as bytes around 127.5."""

_base_ = "i3d-inception-rgb.py"

model = {
    "backbone": {"in_channels": 2},
    "data_preprocessor": {"mean": [127.5, 127.5], "std": [127.5, 127.5]},
}
