"""Settings: a flag wins over a variable, that over a file, that over the default; what is misspelt is named."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from itertools import product
from math import nan
from pathlib import Path

import pytest

from mmplane.commands import main, serve
from mmplane.commands.keys import read_keyring
from mmplane.commands.options import RANGES
from mmplane.commands.settings import Declared, Setting, declared, printed, settle
from mmplane.ranges import Range


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser()


@pytest.fixture
def table(parser: argparse.ArgumentParser) -> dict[str, Declared]:
    return declared(serve.add_flags(parser))


def file(folder: Path, text: str) -> str:
    path = folder / "mmplane.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("flag", "variable", "line"), list(product([False, True], repeat=3)))
def test_who_wins(
    flag: bool, variable: bool, line: bool, tmp_path: Path, parser: argparse.ArgumentParser, table: dict[str, Declared]
) -> None:
    given = vars(parser.parse_args(["--tp", "8", "--fetch-host", "f"] if flag else []))
    environment = {"MMPLANE_TP": "6", "MMPLANE_FETCH_HOST": "v,w"} if variable else {}
    path = file(tmp_path, "tp = 4\nfetch-host = ['t']" if line else "")
    settings = settle(table, given, environment, path)
    order = [(flag, 8, ["f"], "--tp"), (variable, 6, ["v", "w"], "MMPLANE_TP"), (line, 4, ["t"], path)]
    _, tp, hosts, source = next((each for each in order if each[0]), (True, 2, [], "default"))
    assert settings["tp"] == Setting(tp, source)
    assert settings["fetch_host"].value == hosts


def test_without_anything_all_is_as_the_flags_declare(table: dict[str, Declared]) -> None:
    parser = argparse.ArgumentParser()
    serve.add_flags(parser)
    settings = settle(table, {}, {}, None)
    defaults = vars(parser.parse_args([]))
    assert {name: setting.value for name, setting in settings.items()} == {name: defaults[name] for name in settings}
    assert {setting.source for setting in settings.values()} == {"default"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stal-seconds = 1", "did you mean --stall-seconds"),
        ("stall = 1", "did you mean --stall-seconds"),
        ("zebra = 1", "no setting 'zebra'"),
        ("tp = 2.5", "not a whole number"),
        ("tp = true", "not a whole number"),
        ("tp = '2'", "not a whole number"),
        ("stall-seconds = 'x'", "not a number"),
        ("cache = 'maybe'", "is not one of auto, on, off"),
        ("fetch-host = 5", "not a list of strings"),
        ("fetch-host = [1]", "not a list of strings"),
        ("host = 1", "not a string"),
        ("[serve]\ntp = 1", "no setting 'serve'"),
        ("tp = ", "is not valid TOML"),
        (f"x = {'[' * 100_000}", "nested too deeply"),
        (f"stall-seconds = 1{'0' * 400}", "not a number from 1 to 1000000"),
        ('host = "a\\u0000b"', "control characters"),
    ],
)
def test_a_file_with_a_mistake(text: str, words: str, tmp_path: Path, table: dict[str, Declared]) -> None:
    with pytest.raises(ValueError, match=words):
        settle(table, {}, {}, file(tmp_path, text))


def test_no_file(tmp_path: Path, table: dict[str, Declared]) -> None:
    with pytest.raises(ValueError, match=r"--config.*cannot be read"):
        settle(table, {}, {}, str(tmp_path / "missing.toml"))


KUBERNETES = {
    "MMPLANE_PORT": "tcp://10.0.0.11:8000",
    "MMPLANE_PORT_8000_TCP": "tcp://10.0.0.11:8000",
    "MMPLANE_PORT_8000_TCP_ADDR": "10.0.0.11",
    "MMPLANE_PORT_8000_TCP_PORT": "8000",
    "MMPLANE_PORT_8000_TCP_PROTO": "tcp",
    "MMPLANE_SERVICE_HOST": "10.0.0.11",
    "MMPLANE_SERVICE_PORT": "8000",
    "MMPLANE_SERVICE_PORT_HTTP": "8000",
    "MMPLANE_TP_PORT": "udp://10.0.0.12:53",
}
"""What Kubernetes sets in every pod beside a Service named mmplane, and one named mmplane-tp."""


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("MMPLANE_TP", "two", "'two' is not a whole number from 1 to 64"),
        ("MMPLANE_TP", "", "'' is not a whole number from 1 to 64"),
        ("MMPLANE_PORT", "10.0.0.1:8000", "not a whole number from 0 to 65535"),
        ("MMPLANE_CACHE", "yes", "is not one of auto, on, off"),
        ("MMPLANE_MODEL", "a\udcffb", "not UTF-8"),
    ],
)
def test_a_variable_with_a_mistake(variable: str, text: str, words: str, table: dict[str, Declared]) -> None:
    with pytest.raises(ValueError, match=rf"{variable}.*{words}"):
        settle(table, {}, {variable: text}, None)


def test_a_flag_overrides_a_variable_with_a_mistake(table: dict[str, Declared]) -> None:
    ignored: list[str] = []
    settings = settle(table, {"tp": 4}, {"MMPLANE_TP": "two"}, None, ignored.append)
    assert settings["tp"] == Setting(4, "--tp")
    assert ignored == ["MMPLANE_TP: 'two' is not a whole number from 1 to 64; it is ignored because --tp is given"]


@pytest.mark.parametrize("flags", [{}, {"port": 9000}])
def test_variables_of_kubernetes(flags: dict[str, int], table: dict[str, Declared]) -> None:
    ignored: list[str] = []
    assert settle(table, flags, KUBERNETES, None, ignored.append) == settle(table, flags, {}, None)
    assert ignored == [f"variables that are not settings are ignored: {', '.join(sorted(KUBERNETES))}"]


@pytest.mark.parametrize(
    ("variable", "near"),
    [("MMPLANE_STAL_SECONDS", "MMPLANE_STALL_SECONDS"), ("MMPLANE_APIKEYS", "MMPLANE_API_KEYS"), ("MMPLANE_", "")],
)
def test_a_variable_that_is_not_a_setting(variable: str, near: str, table: dict[str, Declared]) -> None:
    ignored: list[str] = []
    assert settle(table, {}, {variable: "1"}, None, ignored.append) == settle(table, {}, {}, None)
    (text,) = ignored
    assert variable in text
    assert near in text


@pytest.mark.parametrize(
    "variable",
    [
        "MMPLANE_SGLANG_ARENA_BYTES",
        "MMPLANE_FUZZ_EXAMPLES",
        "MMPLANE_API_KEYS",
        "MMPLANE_API_KEY",
        "MMPLANE_CONFIG",
        "OTHER_TP",
        "XMMPLANE_TP",
    ],
)
def test_variables_of_others(variable: str, table: dict[str, Declared]) -> None:
    assert settle(table, {}, {variable: "1"}, None, pytest.fail) == settle(table, {}, {}, None)


NUMBERS = dict(RANGES)
del NUMBERS["tenants"]  # which the keys say, and no flag
for name in ("producers_bytes", "metrics_port", "render_processes"):  # flags of `mmplane sidecar`
    del NUMBERS[name]
NUMBERS["join_port"] = NUMBERS["port"]
BY_HAND = {"workers", "join_port", "kv_bytes", "embedding_cache_bytes"}
"""Numbers whose default is found out."""


def test_every_number_has_a_range(table: dict[str, Declared]) -> None:
    numeric = {name for name, each in table.items() if not isinstance(each.default, str | list | None)}
    assert numeric | BY_HAND == {name for name, each in table.items() if isinstance(each.kind, Range)}
    assert set(NUMBERS) == numeric | BY_HAND


def beyond(allowed: Range) -> list[str]:
    if allowed.kind is int:
        return [str(allowed.least - 1), str(allowed.most + 1), "1.5", "nan", "inf", "-inf", "x", "", "9" * 5000]
    return [str(allowed.least - 0.001), str(allowed.most * 1.001), "nan", "inf", "-inf", "x", "", "1e999"]


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_a_number_lies_in_its_range_wherever_it_is_given(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], table: dict[str, Declared]
) -> None:
    allowed, key = NUMBERS[name], name.replace("_", "-")
    for text in beyond(allowed):
        with pytest.raises(SystemExit) as ended:
            main.main(["serve", f"--{key}={text}", "--print-config"])
        assert ended.value.code == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert all(part in said for part in (f"--{key}: ", text[:50], str(allowed)))
        with pytest.raises(ValueError, match=f"MMPLANE_{name.upper()}: .* {allowed}"):
            settle(table, {}, {f"MMPLANE_{name.upper()}": text}, None)
        if text not in ("x", "", "9" * 5000):  # which is no TOML
            with pytest.raises(ValueError, match=f"{key}: .* {allowed}"):
                settle(table, {}, {}, file(tmp_path, f"{key} = {text}"))
    for bound in (allowed.kind(allowed.least), allowed.kind(allowed.most)):
        for environment, path in (({f"MMPLANE_{name.upper()}": str(bound)}, None), ({}, f"{key} = {bound}")):
            settings = settle(table, {}, environment, path and file(tmp_path, path))
            assert settings[name].value == bound


@pytest.mark.parametrize(
    ("setting", "value"),
    [("stall_seconds", nan), ("queue_max", -1), ("kv_bytes", -5), ("port", 70000), ("workers", -1), ("tp", True)],
)
def test_a_configuration_holds_no_nonsense_either(setting: str, value: object, table: dict[str, Declared]) -> None:
    given = {name: each.value for name, each in settle(table, {}, {}, None).items()}
    with pytest.raises(ValueError, match=f"--{setting.replace('_', '-')}: {value} is not a"):
        serve.resolve(given | {"model": "a/b", setting: value})


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("fetch_host", ["a.test,b.test"], "--fetch-host: 'a.test,b.test' is not"),
        ("fetch_host", ["https://a.test"], "--fetch-host: 'https://a.test' is not"),
        ("fetch_host", ["a.test:80"], "--fetch-host: 'a.test:80' is not"),
        ("allow_host", [""], "--allow-host: '' is not"),
        ("fetch_network", ["10.0.0.1/8"], "--fetch-network: "),
        ("host", "no-address", "--host: "),
        ("host", "", "--host: "),
        ("trace_to", "http://[", "--trace-to: "),
    ],
)
def test_what_is_no_address(setting: str, value: object, words: str, table: dict[str, Declared]) -> None:
    given = {name: each.value for name, each in settle(table, {}, {}, None).items()}
    with pytest.raises(ValueError, match=re.escape(words)):
        serve.resolve(given | {"model": "a/b", setting: value})


def test_addresses_as_hosts(table: dict[str, Declared]) -> None:
    given = {name: each.value for name, each in settle(table, {}, {}, None).items()}
    hosts = ["*", "a-b.test", "127.0.0.1", "::1", "x_y"]
    assert serve.resolve(given | {"model": "a/b", "fetch_host": hosts}).fetch_hosts == tuple(hosts)


def test_what_is_printed_can_be_read_back_and_says_who(tmp_path: Path, table: dict[str, Declared]) -> None:
    environment = {"MMPLANE_STALL_SECONDS": "1.5", "MMPLANE_FETCH_HOST": 'a"b,c', "MMPLANE_MEDIA_ROOT": "/ü\\"}
    settings = settle(table, {"tp": 4}, environment, None)
    text = printed(settings)
    again = settle(table, {}, {}, file(tmp_path, text))
    assert {name: each.value for name, each in again.items()} == {name: each.value for name, each in settings.items()}
    lines = {line.split(" = ")[0]: line for line in text.splitlines()}
    assert lines["tp"].endswith("# --tp")
    assert lines["stall-seconds"].endswith("# MMPLANE_STALL_SECONDS")
    assert lines["host"].endswith("# default")
    assert "# workers is not set" in text
    assert "config" not in tomllib.loads(text)


def test_the_command_prints_and_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MMPLANE_CONFIG", file(tmp_path, "queue-max = 7"))
    monkeypatch.setenv("MMPLANE_API_KEYS", "a-secret-of-somebody")
    with pytest.raises(SystemExit) as ended:
        main.main(["serve", "--tp", "3", "--print-config"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert tomllib.loads(said) | {"tp": 3, "queue-max": 7} == tomllib.loads(said)
    assert "secret" not in said


def test_an_unknown_flag_has_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["serve", "--stal-seconds=3"])
    assert "did you mean --stall-seconds" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--tpp", "3"], ["--tp", "x"], ["--cache", "maybe"]])
def test_a_flag_with_a_mistake(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["serve", *words])
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_other_addresses_need_keys(table: dict[str, Declared]) -> None:
    given = {name: setting.value for name, setting in settle(table, {}, {}, None).items()}
    given |= {"model": "a/b", "host": "0.0.0.0"}
    with pytest.raises(ValueError, match="--api-key-file"):
        serve.resolve(given)
    assert serve.resolve(given, tenants=1).host == "0.0.0.0"


def test_keys_leave_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMPLANE_API_KEYS", "one-key,alice:another-key")
    keyring = read_keyring("")
    assert len(keyring.digests) == 2
    assert "MMPLANE_API_KEYS" not in os.environ
    assert not read_keyring("")
    (tmp_path / "keys").write_text("# none\n")
    with pytest.raises(ValueError, match="contains no key"):
        read_keyring(str(tmp_path / "keys"))
    with pytest.raises(ValueError, match="cannot be read"):
        read_keyring(str(tmp_path / "missing"))
    monkeypatch.setenv("MMPLANE_API_KEYS", "")
    with pytest.raises(ValueError, match="contains no key"):
        read_keyring("")


def test_one_variable_holds_one_key_whatever_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMPLANE_API_KEY", "S3cret-with,a-comma-inside\n")
    keyring = read_keyring("")
    assert keyring.caller(b"S3cret-with,a-comma-inside") is not None
    assert keyring.caller(b"S3cret-with") is None
    assert len(keyring.digests) == 1
    for text in ("", " ", "one-key\nother-key", "one-key other-key", "one-key\u2028other-key", "one-key\x0bother-key"):
        monkeypatch.setenv("MMPLANE_API_KEY", text)
        with pytest.raises(ValueError, match="MMPLANE_API_KEY does not hold exactly one key"):
            read_keyring("")


@pytest.mark.parametrize("flags", [["--port", "8000"], []])
def test_the_command_beside_a_service_of_kubernetes(flags: list[str]) -> None:
    """Hazard R24, through the real command."""
    command = [sys.executable, "-m", "mmplane", "serve", *flags, "--print-config"]
    ended = subprocess.run(command, env=os.environ | KUBERNETES, capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert tomllib.loads(ended.stdout)["port"] == 8000
    (line,) = ended.stderr.splitlines()
    assert "WARNING" in line
    assert all(variable in line for variable in KUBERNETES)


@pytest.mark.parametrize(
    ("host", "address"), [("::1", "[::1]:8509"), ("127.0.0.1", "127.0.0.1:8509"), ("localhost", "localhost:8509")]
)
def test_an_address_as_a_url_has_it(host: str, address: str) -> None:
    assert serve.address(host, 8509) == address
