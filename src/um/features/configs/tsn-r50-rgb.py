"""mmaction2's TSN with a ResNet-50, a network for single pictures: every other frame of a snippet.

In its training, the 8 frames are spread over the whole video.
"""

_base_ = "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb.py"

checkpoint = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/tsn/"
    "tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb/"
    "tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb_20220906-2692d16c.pth"
)
clip = {"frames": 8, "stride": 2}
