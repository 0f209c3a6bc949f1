"""SGLang's HTTP application in a tokenizer worker process (`--tokenizer-worker-num` > 1), with plugins loaded.

SGLang loads plugins in every kind of process but this one; the launcher points `SGLANG_HTTP_SERVER_APP_PATH` here.
"""

from sglang.srt.entrypoints.http_server import app
from sglang.srt.plugins import load_plugins

load_plugins()

__all__ = ["app"]
