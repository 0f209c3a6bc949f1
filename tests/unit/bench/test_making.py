"""Items to send: their expected features are those of the bench's own servers."""

from __future__ import annotations

from clips import encode, moving
from mmplane.bench.inputs.making import recipe_of
from mmplane.bench.inputs.workloads import WORKLOADS
from mmplane.bench.run.settings import Options
from mmplane.models.cached import built_in_folder


def test_expected_features_have_the_servers_encoding() -> None:
    """They would have other digests, and no delivery a result."""
    flags = Options(deliveries=("arena",), model_folder="", runner="null").server_flags(WORKLOADS["video-2mb"])
    recipe = recipe_of("video", encode(moving(8, 128, 128)), built_in_folder())
    assert recipe.layout.tensors[0].dtype == flags[flags.index("--encoding") + 1]
