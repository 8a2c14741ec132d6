"""Two-stream I3D's RGB network (CVPR 2017) on Kinetics-400."""

model = {
    "type": "Recognizer3D",
    "backbone": {"type": "InceptionI3D", "in_channels": 3},
    "cls_head": {
        "type": "I3DHead",
        "num_classes": 400,
        "in_channels": 1024,
        "spatial_type": "avg",
        "dropout_ratio": 0.5,
        "average_clips": "prob",
    },
    "data_preprocessor": {
        "type": "ActionDataPreprocessor",
        "mean": [127.5, 127.5, 127.5],
        "std": [127.5, 127.5, 127.5],
        "format_shape": "NCTHW",
    },
}
