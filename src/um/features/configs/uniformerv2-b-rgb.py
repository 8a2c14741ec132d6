"""mmaction2's UniFormerV2-B from CLIP and Kinetics-710: every eighth of the 64 frames around a snippet.

In its training, the 8 frames are spread over the whole video.
"""

_base_ = (
    "mmaction::recognition/uniformerv2/uniformerv2-base-p16-res224_clip-kinetics710-pre_8xb32-u8_kinetics400-rgb.py"
)

checkpoint = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/uniformerv2/"
    "uniformerv2-base-p16-res224_clip-kinetics710-pre_8xb32-u8_kinetics400-rgb/"
    "uniformerv2-base-p16-res224_clip-kinetics710-pre_8xb32-u8_kinetics400-rgb_20230313-75be0806.pth"
)
clip = {"frames": 8, "stride": 8}
size = {"short_side": 224, "crop": 224}
