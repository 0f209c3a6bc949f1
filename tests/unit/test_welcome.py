"""What a server prints once it is ready can be pasted, with keys and without."""

from __future__ import annotations

import ast
import re

import pytest

from mmplane.commands.welcome import welcome


@pytest.mark.parametrize("keyed", [False, True])
def test_examples_take_the_key_from_its_variable(keyed: bool) -> None:
    text = welcome("http://[::1]:8000", "tiny", after_s=1.23, keyed=keyed)
    assert text.startswith("\nmmplane is ready after 1.2 s at http://[::1]:8000, serving 'tiny'")
    assert ('-H "authorization: Bearer $MMPLANE_API_KEY"' in text) == keyed
    program = "\n".join(line.strip() for line in text[text.index("  import ") :].splitlines())
    names = {name.name for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Import) for name in node.names}
    assert names == ({"os", "openai"} if keyed else {"openai"})
    (key,) = re.findall(r"api_key=(.*)\)$", program, re.MULTILINE)
    assert key == ('os.environ["MMPLANE_API_KEY"]' if keyed else '"none"')
