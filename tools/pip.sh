#!/usr/bin/env bash
# pip.sh PYTHON TITLE ARGUMENTS...: pip install, with a line for each larger download and one for the time it took.
set -euo pipefail
python=$1 title=$2
shift 2
echo "== $title"
SECONDS=0
# Of pip's output: packages of 1 MB and more, and when it begins to unpack them. Errors are on standard error.
"$python" -m pip install --progress-bar off "$@" | sed -unE \
  -e 's/^ *(Downloading|Using cached) ([^ ]*\/)?([^ ]+) \(([0-9.]+ [MG]B)\)$/   \1 \3, \4/p' \
  -e 's/^Installing collected packages:.*/   installing the packages/p'
echo "   done in $SECONDS s"
