#!/usr/bin/env bash
# Makes each target in turn and prints at the end, also when one fails, how long each took.
set -euo pipefail
cd "$(dirname "$0")/.."
took=""
trap 'printf "== minutes of %s\n%b" "$*" "$took"' EXIT
for target in "$@"; do
  SECONDS=0
  code=0
  "${MAKE:-make}" "$target" || code=$?
  took+="$(printf "%-14s %3d:%02d" "$target" $((SECONDS / 60)) $((SECONDS % 60)))$( ((code == 0)) || echo "  failed")\n"
  ((code == 0)) || exit "$code"
done
