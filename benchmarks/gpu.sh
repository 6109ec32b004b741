#!/usr/bin/env bash
# What has to be seen on a machine with an NVIDIA GPU, under ten minutes: the tests that take a device, and absolute
# times of every layer. PYTHON: an interpreter that has lipsrl's packages and a torch with CUDA.
#     PYTHON=python3 OUT=results bash benchmarks/gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-.}
"$PYTHON" -c 'import torch; print(torch.__version__, torch.cuda.get_device_name())' | tee "$OUT/gpu.txt"
"$PYTHON" -m pytest -q -p no:cacheprovider tests/layers/test_devices.py tests/policies/test_policy_devices.py 2>&1 | tee "$OUT/gpu-tests.txt"
"$PYTHON" -m benchmarks.layers --device cuda --peers --widths 64 256 --repeats 9 --learn-steps 2048 --learn-repeats 3 \
    --output "$OUT/gpu-layers.json" 2>&1 | tee "$OUT/gpu-layers.txt"
