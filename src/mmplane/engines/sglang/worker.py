"""SGLang's HTTP application in a tokenizer worker process (`--tokenizer-worker-num` > 1), with plugins loaded.

SGLang loads plugins in every kind of process but this one, so the launcher sets `SGLANG_HTTP_SERVER_APP_PATH` to this
module.
"""

from sglang.srt.entrypoints.http_server import app
from sglang.srt.plugins import load_plugins

load_plugins()

__all__ = ["app"]
