"""`eager-compact`: like `eager`, in the smallest form from which a rank can rebuild the features bit for bit (B3).

Features of 8-bit pixels travel as those pixels, and a table on the rank converts them to floats
(`mmplane.ranks.model.rebuild`). Other features travel in the model's own dtype, to which the model would cast them
anyway. In addition, items are compressed with zstd if it pays (`mmplane.delivery.compact`). The front end chooses, and
a record states the choice.
"""

from __future__ import annotations

from mmplane.delivery.eager import Eager


class EagerCompact(Eager):
    """Only what the front end sends is different."""

    name = "eager-compact"
