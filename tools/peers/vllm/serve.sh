#!/usr/bin/env bash
# serve.sh VENV MODEL TP PORT [vLLM options]: a real vLLM server on the CPU. Ready in one to two minutes.
# MODEL: a folder that tiny_model.py has written. Plugins installed in VENV are loaded (VLLM_PLUGINS picks).
set -euo pipefail
venv=$1 model=$2 tp=$3 port=$4
shift 4
export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-1}" VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1
exec "$venv/bin/vllm" serve "$model" --served-model-name tiny --host 127.0.0.1 --port "$port" -tp "$tp" \
  --max-model-len 16384 --enforce-eager --dtype bfloat16 --max-num-seqs 32 "$@"
