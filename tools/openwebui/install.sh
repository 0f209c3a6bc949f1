#!/usr/bin/env bash
# Open WebUI into a virtual environment, without the packages that run models or read documents on its own machine.
set -euo pipefail
folder=$1
python3 -m venv --clear "$folder"
"$folder/bin/python" -m pip install --quiet --no-deps "open-webui==${OPENWEBUI_VERSION:-0.12.4}"
"$folder/bin/python" - > "$folder/needed.txt" <<'PYTHON'
import re
from importlib.metadata import requires

LEFT_OUT = {
    "accelerate", "einops", "faster-whisper", "opencv-python-headless", "rapidocr-onnxruntime", "sentence-transformers",
    "transformers",
}
for needed in requires("open-webui"):
    if "extra ==" not in needed and re.match(r"[\w.-]+", needed).group().lower() not in LEFT_OUT:
        print(needed)
PYTHON
"$folder/bin/python" -m pip install --quiet --requirement "$folder/needed.txt"
