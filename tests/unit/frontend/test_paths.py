"""One spelling of each path, for those who judge it and those who route it."""

from __future__ import annotations

import pytest

from mmplane.frontend.http.paths import canonical


@pytest.mark.parametrize(
    ("path", "root", "same"),
    [
        ("/v1/models", "", "/v1/models"),
        ("//v1/models", "", "/v1/models"),
        ("/v1//models///", "", "/v1/models"),
        ("/v1/models/org/name/", "", "/v1/models/org/name"),
        ("/", "", "/"),
        ("//", "", "/"),
        ("/health/../metrics", "", "/health/../metrics"),
        ("/llm/v1/models", "/llm", "/v1/models"),
        ("//llm//v1/models", "/llm", "/v1/models"),
        ("/v1/models", "/llm", "/v1/models"),
        ("/llm", "/llm", "/"),
        ("/llm/", "/llm", "/"),
        ("/llmx/v1", "/llm", "/llmx/v1"),
    ],
)
def test_a_path_has_one_spelling(path: str, root: str, same: str) -> None:
    assert canonical(path, root) == same
    assert canonical(same) == same
