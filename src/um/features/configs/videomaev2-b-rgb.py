"""mmaction2's VideoMAE V2 with a ViT-B, distilled from ViT-g: every fourth of the 64 frames around a snippet."""

_base_ = "mmaction::recognition/videomaev2/vit-base-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400.py"

checkpoint = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/videomaev2/"
    "vit-base-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400/"
    "vit-base-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400_20230510-3e7f93b2.pth"
)
clip = {"frames": 16, "stride": 4}
size = {"short_side": 224, "crop": 224}
