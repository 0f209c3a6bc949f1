"""`eager-compact`: as `eager`, in the smallest form from which a rank can rebuild the features bit for bit (B3).

Features of 8-bit pixels travel as those pixels, and a table on the rank makes floats of them
(`mmplane.ranks.model.rebuild`); others travel in the model's own dtype, where the model would cast them anyway. On top
of that comes zstd, for an item on which it pays (`mmplane.delivery.compact`). The front end chooses; a record says what
it chose.
"""

from __future__ import annotations

from mmplane.delivery.eager import Eager


class EagerCompact(Eager):
    """What differs is what the front end sends."""

    name = "eager-compact"
