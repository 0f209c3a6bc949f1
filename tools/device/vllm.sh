#!/usr/bin/env bash
# vllm.sh VENV [--cpu] [options of measure.py]: vLLM with mmplane's plugin and without, in turns, on a machine with a
# GPU and a network, with the V2 runner. About 15 minutes: an environment in VENV if there is none, then answers, then
# times to the first token. MODEL, TP: another model or number of ranks. --cpu: tools/peers/vllm, a tiny model, one turn.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
peers=$here/../peers/vllm
venv=${1:?usage: vllm.sh VENV [--cpu]}
shift
if [ "${1:-}" = --cpu ]; then # "$@" still begins with it
  [ -x "$venv/bin/python" ] || { "$peers/install.sh" "$venv" && "$venv/bin/pip" install -q "$here/../.."; }
  model=$(mktemp -d)
  trap 'rm -rf "$model"' EXIT
  "$venv/bin/python" "$peers/tiny_model.py" "$model" > /dev/null
  "$venv/bin/python" "$here/measure.py" vllm "$@" --turns 1 --pictures 3 -- \
    bash -c 'exec "$0" "$1" "$2" "${TP:-1}" "$PORT" $OPTIONS' "$peers/serve.sh" "$venv" "$model"
  exit
fi
[ -x "$venv/bin/python" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q vllm==0.32.0 "$here/../..[media]"; }
export VLLM_USE_V2_MODEL_RUNNER=1
"$venv/bin/python" "$here/measure.py" vllm "$@" -- bash -c 'exec "$0" serve "$1" -tp "${TP:-1}" --host 127.0.0.1 \
  --port "$PORT" --served-model-name tiny --max-model-len 16384 $OPTIONS' \
  "$venv/bin/vllm" "${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}"
