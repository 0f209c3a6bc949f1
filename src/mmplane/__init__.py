"""mmplane: the multimodal data plane of tensor-parallel inference servers.

What is exported here is the library: `docs/embedding.md`. It needs neither torch nor NumPy.
"""

__version__ = "0.1.0"

from mmplane.embed.address import Address
from mmplane.embed.draft import Draft
from mmplane.embed.hold import Hold
from mmplane.embed.inbox import Inbox, View
from mmplane.embed.plane import Plane
from mmplane.embed.records import Leased

__all__ = ["Address", "Draft", "Hold", "Inbox", "Leased", "Plane", "View", "__version__"]
