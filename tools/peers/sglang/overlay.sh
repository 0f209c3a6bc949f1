#!/usr/bin/env bash
# overlay.sh VENV VERSION FOLDER: another version of SGLang, to stand before VENV's on PYTHONPATH (about 200 MB).
# It runs with the packages that VENV has: 0.5.20 to 0.5.22 differ from 0.5.23 in pins of GPU kernels, and work with
# 0.5.23's transformers.
set -euo pipefail
venv=${1:?usage: overlay.sh VENV VERSION FOLDER} version=${2:?} folder=${3:?}
[ -e "$folder/sglang-$version.dist-info" ] && exit
rm -rf "$folder"
"$venv/bin/python" -m pip install -q --no-deps --no-compile --target "$folder" "sglang==$version"
