"""Settings: a flag wins over a variable, that over a file, that over the default; what is misspelt is named."""

from __future__ import annotations

import argparse
import os
import tomllib
from itertools import product
from pathlib import Path

import pytest

from mmplane import cli
from mmplane.settings import Declared, Setting, declared, printed, settle


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser()


@pytest.fixture
def table(parser: argparse.ArgumentParser) -> dict[str, Declared]:
    return declared(cli._serve_options(parser))


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
    cli._serve_options(parser)
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
        ("tp = 2.5", "no whole number"),
        ("tp = true", "no whole number"),
        ("tp = '2'", "no whole number"),
        ("stall-seconds = 'x'", "no number"),
        ("cache = 'maybe'", "none of auto, on, off"),
        ("fetch-host = 'one'", "list of texts"),
        ("fetch-host = [1]", "list of texts"),
        ("host = 1", "no text"),
        ("[serve]\ntp = 1", "no setting 'serve'"),
        ("tp = ", "no TOML"),
    ],
)
def test_a_file_with_a_mistake(text: str, words: str, tmp_path: Path, table: dict[str, Declared]) -> None:
    with pytest.raises(ValueError, match=words):
        settle(table, {}, {}, file(tmp_path, text))


def test_no_file(tmp_path: Path, table: dict[str, Declared]) -> None:
    with pytest.raises(ValueError, match=r"--config.*cannot be read"):
        settle(table, {}, {}, str(tmp_path / "missing.toml"))


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("MMPLANE_STAL_SECONDS", "1", "did you mean MMPLANE_STALL_SECONDS"),
        ("MMPLANE_APIKEYS", "a-key", "did you mean MMPLANE_API_KEYS"),
        ("MMPLANE_TP", "two", "'two' is no whole number"),
        ("MMPLANE_PORT", "tcp://10.0.0.1:8000", "no whole number"),
        ("MMPLANE_CACHE", "yes", "none of auto, on, off"),
    ],
)
def test_a_variable_with_a_mistake(variable: str, text: str, words: str, table: dict[str, Declared]) -> None:
    with pytest.raises(ValueError, match=rf"{variable}.*{words}"):
        settle(table, {}, {variable: text}, None)


@pytest.mark.parametrize(
    "variable",
    [
        "MMPLANE_SERVICE_HOST",
        "MMPLANE_PORT_8000_TCP_ADDR",
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
    assert settle(table, {}, {variable: "1"}, None) == settle(table, {}, {}, None)


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
    assert "# served-model-name is not set" in text
    assert "config" not in tomllib.loads(text)


def test_the_command_prints_and_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MMPLANE_CONFIG", file(tmp_path, "queue-max = 7"))
    monkeypatch.setenv("MMPLANE_API_KEYS", "a-secret-of-somebody")
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--tp", "3", "--print-config"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert tomllib.loads(said) | {"tp": 3, "queue-max": 7} == tomllib.loads(said)
    assert "secret" not in said


def test_an_unknown_flag_has_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", "--stal-seconds=3"])
    assert "did you mean --stall-seconds" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--tpp", "3"], ["--tp", "x"], ["--cache", "maybe"]])
def test_a_flag_with_a_mistake(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", *words])
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_other_addresses_need_keys(table: dict[str, Declared]) -> None:
    given = {name: setting.value for name, setting in settle(table, {}, {}, None).items()}
    given |= {"model": "a/b", "host": "0.0.0.0"}
    with pytest.raises(ValueError, match="--api-key-file"):
        cli.resolve(given)
    assert cli.resolve(given, keyed=True).host == "0.0.0.0"


def test_keys_leave_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMPLANE_API_KEYS", "one-key,alice:another-key")
    keyring = cli._keyring("")
    assert len(keyring.digests) == 2
    assert "MMPLANE_API_KEYS" not in os.environ
    assert not cli._keyring("")
    monkeypatch.setenv("MMPLANE_API_KEY", "one-key")
    assert cli._keyring("").caller(b"one-key") is not None
    (tmp_path / "keys").write_text("# none\n")
    with pytest.raises(ValueError, match="holds no key"):
        cli._keyring(str(tmp_path / "keys"))
    with pytest.raises(ValueError, match="cannot be read"):
        cli._keyring(str(tmp_path / "missing"))
    monkeypatch.setenv("MMPLANE_API_KEYS", "")
    with pytest.raises(ValueError, match="holds no key"):
        cli._keyring("")
