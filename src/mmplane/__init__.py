"""mmplane: the multimodal data plane of tensor-parallel inference servers.

This module exports the library (`docs/embedding.md`). It needs neither torch nor NumPy.
"""

__version__ = "0.1.0"

from mmplane.embed.address import Address
from mmplane.embed.client import Client, connect
from mmplane.embed.draft import Draft
from mmplane.embed.embeddings import Embeddings
from mmplane.embed.errors import BadMedia, BadOption, Full, Lost, NotAttached, SidecarError, TooLarge, Unprofiled
from mmplane.embed.hold import Hold, SidecarHold
from mmplane.embed.inbox import Inbox, View
from mmplane.embed.janitor import Janitor
from mmplane.embed.plane import Plane
from mmplane.embed.records import Leased
from mmplane.embed.sidecar import Sidecar

__all__ = [
    "Address",
    "BadMedia",
    "BadOption",
    "Client",
    "Draft",
    "Embeddings",
    "Full",
    "Hold",
    "Inbox",
    "Janitor",
    "Leased",
    "Lost",
    "NotAttached",
    "Plane",
    "Sidecar",
    "SidecarError",
    "SidecarHold",
    "TooLarge",
    "Unprofiled",
    "View",
    "__version__",
    "connect",
]
