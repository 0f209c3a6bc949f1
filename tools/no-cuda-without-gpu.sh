#!/usr/bin/env bash
# no-cuda-without-gpu.sh PYTHON: fail when packages for CUDA were installed on a machine that has no GPU.
# CUDA_WITHOUT_GPU=1 allows them; `make test-pythons` sets it for interpreters that a CPU build may be missing for.
set -euo pipefail
[ -e /dev/nvidiactl ] && exit 0
if found=$("$1" -m pip list 2>/dev/null | grep -iE '^(nvidia-|triton)'); then
  if [ "${CUDA_WITHOUT_GPU:-}" = 1 ]; then
    echo "   packages for CUDA were installed although this machine has no GPU ($(wc -l <<< "$found")): allowed for this test"
    exit 0
  fi
  printf 'packages for CUDA were installed, and this machine has no GPU:\n%s\n' "$found" >&2
  echo 'Point pip at a CPU build of torch: make clean && make install TORCH_OPTIONS="--index-url ..."' >&2
  exit 1
fi
