"""`eager-compact`: as `eager`, in the smallest form from which a rank can rebuild the features bit for bit (B3).

Features of 8-bit pixels travel as those pixels and become floats by a table on the rank (`mmplane.ranks.rebuild`);
others in the model's own dtype, where the model would cast them anyway. On top of that zstd, for an item on which it
pays (`mmplane.delivery.compact`). All of that is the front end's choice; a record says what was chosen.
"""

from __future__ import annotations

from mmplane.delivery.eager import Eager


class EagerCompact(Eager):
    """What differs is what the front end sends."""

    name = "eager-compact"
