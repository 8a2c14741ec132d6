"""mmaction2's VideoMAE with a ViT-B, fine-tuned on Kinetics-400: every fourth of the 64 frames around a snippet."""

_base_ = "mmaction::recognition/videomae/vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400.py"

checkpoint = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/videomae/"
    "vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400_20221013-860a3cd3.pth"
)
clip = {"frames": 16, "stride": 4}
size = {"short_side": 224, "crop": 224}
