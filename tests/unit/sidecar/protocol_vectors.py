"""Golden vectors of the protocol (docs/protocol.md): these bytes stay as they are, whatever the code becomes.

`test_protocol.py` compares both ways. A change of a line is a change of the protocol: append fields with defaults, or
raise VERSION.
"""

from __future__ import annotations

from mmplane.core.errors import Failure
from mmplane.core.records import Item, Layout, Record, Slot, Tensor
from mmplane.embed.records import Leased
from mmplane.sidecar.records import (
    Abandon,
    Await,
    Bye,
    Bytes,
    Describe,
    Described,
    Done,
    Ended,
    Failed,
    Figures,
    Find,
    Forget,
    Hello,
    Holding,
    Lease,
    Leasing,
    Mapped,
    Media,
    NeedBytes,
    Obtain,
    Publish,
    Refused,
    Region,
    RegionUp,
    Release,
    Report,
    Reserve,
    Reserved,
    Revoke,
    Welcome,
    Wish,
)

PLANE, KEY = bytes(range(16)), bytes(range(32))
MEDIA = Media(Wish("video", 0, 16, 1.5, arguments='{"num_frames":8}'), KEY, 250_000, "tenant")
SLOT = Slot(1, 4096, 1088, 7)
TENSORS = (Tensor("pixel_values", "bfloat16", (16, 32), 0), Tensor("image_grid_thw", "int64", (1, 3), 1024))
ITEM = Item(KEY, "image", SLOT, TENSORS)

VECTORS: list[tuple[Record, str]] = [
    (
        Hello(1, "producer", region_bytes=8192),
        "99a568656c6c6f01a870726f6475636572000001c400a6736861726564cd2000",
    ),
    (
        Hello(1, "rank", 2, 1, 4, bytes(range(32)), "writable"),
        (
            "99a568656c6c6f01a472616e6b020104c420000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
            "a87772697461626c6500"
        ),
    ),
    (
        Hello(1, "janitor"),
        "99a568656c6c6f01a76a616e69746f72000001c400a673686172656400",
    ),
    (
        Describe(1, MEDIA),
        (
            "93a86465736372696265019496a5766964656f0010cb3ff8000000000000c2b07b226e756d5f6672616d6573223a387dc420"
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fce0003d090a674656e616e74"
        ),
    ),
    (
        Obtain(2, MEDIA),
        (
            "93a66f627461696e029496a5766964656f0010cb3ff8000000000000c2b07b226e756d5f6672616d6573223a387dc4200001"
            "02030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fce0003d090a674656e616e74"
        ),
    ),
    (
        Bytes(2),
        "92a5627974657302",
    ),
    (
        Forget(2),
        "92a6666f7267657402",
    ),
    (
        Find(3, b"key"),
        "93a466696e6403c4036b6579",
    ),
    (
        Reserve(4, 300),
        "93a77265736572766504cd012c",
    ),
    (
        Publish(5, ITEM),
        (
            "93a77075626c6973680595a46974656dc420000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
            "a5696d6167659401cd1000cd0440079294ac706978656c5f76616c756573a862666c6f617431369210200094ae696d616765"
            "5f677269645f746877a5696e743634920103cd0400"
        ),
    ),
    (
        Abandon(SLOT),
        "92a76162616e646f6e9401cd1000cd044007",
    ),
    (
        Lease(6, 9, 2),
        "95a56c6561736506090200",
    ),
    (
        Await(7, 2),
        "93a561776169740702",
    ),
    (
        Report(8),
        "92a67265706f727408",
    ),
    (
        Release((9, 10)),
        "92a772656c6561736592090a",
    ),
    (
        Revoke((70000,)),
        "92a67265766f6b6591ce00011170",
    ),
    (
        Mapped((0, 1, 2)),
        "92a66d617070656493000102",
    ),
    (
        Ended((70000, 70001)),
        "92a5656e64656492ce00011170ce00011171",
    ),
    (
        Bye(),
        "91a3627965",
    ),
    (
        Welcome(1, PLANE, bytes(32), (Region(0, 4096), Region(1, 2**40)), 1, 3),
        (
            "97a777656c636f6d6501c410000102030405060708090a0b0c0d0e0fc4200000000000000000000000000000000000000000"
            "000000000000000000000000929200cd10009201cf00000100000000000103"
        ),
    ),
    (
        Refused("why"),
        "92a772656675736564a3776879",
    ),
    (
        RegionUp(Region(2, 4096)),
        "92a9726567696f6e5f75709202cd1000",
    ),
    (
        NeedBytes(2),
        "92aa6e6565645f627974657302",
    ),
    (
        Described(1, KEY, "image", Layout(TENSORS, ((268, 4),), 1088)),
        (
            "95a964657363726962656401c420000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fa5696d61"
            "6765939294ac706978656c5f76616c756573a862666c6f617431369210200094ae696d6167655f677269645f746877a5696e"
            "743634920103cd04009192cd010c04cd0440"
        ),
    ),
    (
        Holding(2, 9, ITEM, True),
        (
            "95a7686f6c64696e67020995a46974656dc420000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e"
            "1fa5696d6167659401cd1000cd0440079294ac706978656c5f76616c756573a862666c6f617431369210200094ae696d6167"
            "655f677269645f746877a5696e743634920103cd0400c3"
        ),
    ),
    (
        Reserved(4, SLOT),
        "93a87265736572766564049401cd1000cd044007",
    ),
    (
        Leasing(6, 70000, 3),
        "94a76c656173696e6706ce0001117003",
    ),
    (
        Done(7),
        "92a4646f6e6507",
    ),
    (
        Figures(8, b"{}"),
        "93a76669677572657308c4027b7d",
    ),
    (
        Failed(2, Failure(503, "overloaded", "the arena is full", None, 1)),
        "93a66661696c65640295cd01f7aa6f7665726c6f61646564b1746865206172656e612069732066756c6cc001",
    ),
    (
        Leased(70000, ITEM, PLANE, 3),
        (
            "94ce0001117095a46974656dc420000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fa5696d61"
            "67659401cd1000cd0440079294ac706978656c5f76616c756573a862666c6f617431369210200094ae696d6167655f677269"
            "645f746877a5696e743634920103cd0400c410000102030405060708090a0b0c0d0e0f03"
        ),
    ),
]
