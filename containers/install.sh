#!/bin/sh
# UM into the Python of an image, with the tested versions; run in a checkout, by the Dockerfile and by um.def.
# TORCH: cpu, or cuda for the build on PyPI, for NVIDIA GPUs.
set -eu
apt-get update
apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 # for OpenCV
rm -rf /var/lib/apt/lists/*
if [ "$TORCH" = cpu ]; then
    export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
fi
python -m pip install --no-cache-dir --constraint constraints.txt .
python -m pip install --no-cache-dir --constraint constraints.txt --no-deps mmaction2
um weights --out /tmp/weights.safetensors # keeps a copy in UM_CACHE
rm /tmp/weights.safetensors
chmod -R a+rX "$UM_CACHE"
