#!/usr/bin/env bash
# sglang.sh VENV [--cpu] [options of measure.py]: SGLang with mmplane's plugin and without, on a machine with a GPU and
# a network. About 15 minutes: an environment in VENV if there is none, then answers, then times to the first token.
# MODEL, TP: another model or number of ranks. --cpu: tools/peers/sglang, a tiny model, one turn.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
peers=$here/../peers/sglang
venv=${1:?usage: sglang.sh VENV [--cpu]}
shift
if [ "${1:-}" = --cpu ]; then # "$@" still begins with it
  [ -x "$venv/bin/python" ] || { "$peers/install.sh" "$venv" && "$venv/bin/pip" install -q "$here/../.."; }
  model=$(mktemp -d)
  trap 'rm -rf "$model"' EXIT
  "$venv/bin/python" "$peers/tiny_model.py" "$model" > /dev/null
  "$venv/bin/python" "$here/measure.py" sglang "$@" --turns 1 --pictures 3 -- \
    bash -c 'exec "$0" "$1" "$2" "${TP:-1}" "$PORT" --enable-metrics --served-model-name tiny $OPTIONS' \
    "$peers/serve.sh" "$venv" "$model"
  exit
fi
[ -x "$venv/bin/python" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q sglang==0.5.23 "$here/../.."; }
"$venv/bin/python" "$here/measure.py" sglang "$@" -- bash -c 'exec "$0" -m sglang.launch_server --model-path "$1" \
  --tp-size "${TP:-1}" --host 127.0.0.1 --port "$PORT" --served-model-name tiny --enable-metrics --context-length 16384 \
  --mm-feature-transport cpu $OPTIONS' "$venv/bin/python" "${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}"
