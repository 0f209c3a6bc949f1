#!/usr/bin/env bash
# own_server.sh [--cpu]: mmplane's own server on a machine with a GPU and no network, in at most 8 minutes: answers
# first, then times to the first token with a picture, then tokens a second beside transformers' `generate_batch`.
# PYTHON: an interpreter with torch (python3). WHEELS: a folder of wheels of what else is missing there, made before by
# `own_server.sh --wheels FOLDER` on a machine with a network (60 MiB). --cpu: a short form without a GPU.
set -euo pipefail
tree=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
if [ "${1:-}" = --wheels ]; then # what [serve] needs and an image with torch and transformers does not have
  platforms=$(printf -- '--platform manylinux_2_%s_x86_64 ' 34 31 28 27 26 24 17 5)"--platform manylinux2014_x86_64"
  # shellcheck disable=SC2086
  exec "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "${PYTHON_VERSION:-3.12}" \
    --implementation cp $platforms --dest "${2:?folder}" --constraint \
    "$tree/constraints.txt" blake3 msgspec av simplejpeg soundfile soxr pillow transformers \
    uvicorn httptools llguidance starlette pybase64 shtab setproctitle
fi
export PYTHONPATH=$tree/src
if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl
  PYTHONPATH=$PYTHONPATH:$site
fi
if [ "${1:-}" = --cpu ]; then
  "$python" "$tree/tools/device/own_server.py" --device cpu --numbers 6 --pictures 3
  "$python" "$tree/benchmarks/decode.py" --tp 1 --running 1 --temperatures 0 --tokens 8 --rounds 1 --layers 1 --generate
  exit
fi
timeout 240 "$python" "$tree/tools/device/own_server.py"
timeout 240 "$python" "$tree/benchmarks/decode.py" --device cuda --tp 1 --temperatures 0 --tokens 128 --layers 24 --generate
