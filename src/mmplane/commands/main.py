"""The `mmplane` command."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from mmplane import __version__
from mmplane.commands.starting import MEDIA, lacking
from mmplane.parser import Parser


class Command(NamedTuple):
    """A command with its own module and flags. It is imported only when it is used, because some load torch."""

    help: str
    module: str
    extra: str = "serve"
    """The extra with its dependencies. The base package only has `plan`, and --help of every command."""
    packages: tuple[str, ...] = ()
    """The packages that its processes need: without them the processes would fail one after another."""
    takes: str = "URL"
    """What the flag of a doctor may be given."""


COMMANDS = {
    "serve": Command(
        "serve a vision-language model over HTTP",
        "mmplane.commands.serve",
        packages=(*MEDIA, "starlette", "torch", "transformers", "uvicorn"),
    ),
    "sidecar": Command("media for the processes of any engine", "mmplane.commands.sidecar", "media"),
    "worker": Command("make features for a server on another machine", "mmplane.commands.worker", "media", MEDIA),
    "route": Command("several replicas behind one address", "mmplane.commands.route", ""),
    "ray": Command("media machines and replicas on a Ray cluster", "mmplane.commands.ray", "ray", ("ray",)),
    "features": Command("features of files, as safetensors", "mmplane.commands.features", "media", MEDIA),
    "doctor": Command("check this machine and a checkpoint", "mmplane.commands.doctor"),
    "top": Command("what a server does now, in a terminal", "mmplane.observe.top"),
    "bench": Command("measure deliveries", "mmplane.bench.main", "bench"),
    "plan": Command("suggest flags for a given traffic", "mmplane.capacity"),
    "example": Command("print a small example engine or client", "mmplane.commands.example", ""),
    "deploy": Command("print files for systemd, Compose or Kubernetes", "mmplane.commands.deploy", ""),
    "completion": Command("print a script that completes commands and flags", "mmplane.commands.completion"),
    "demo": Command("draw three numbers and ask the model to read them", "mmplane.demo"),
}
DOCTORS = {
    "--sglang": Command("the plugin in SGLang's environment, or in the server at URL", "mmplane.engines.sglang.doctor"),
    "--vllm": Command("the plugin in vLLM's environment, or in the server at URL", "mmplane.engines.vllm.doctor"),
    "--ray": Command(
        "how the Ray cluster with its GCS at HOST:PORT is configured (default: $RAY_ADDRESS, or this machine's)",
        "mmplane.ray.doctor",
        "ray",
        takes="HOST:PORT",
    ),
}
"""Flags of `mmplane doctor` that are commands: an engine, and Ray, may lack what our doctor imports."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first word names."""
    description = "The multimodal data plane for inference servers."
    parser = Parser(prog="mmplane", description=description, example="mmplane serve --model tiny --tp 2")
    parser.add_argument("--version", action="version", version=f"mmplane {__version__}")
    names = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        names.add_parser(name, help=f"{command.help}; see {name} --help", add_help=False)
    _open_closed_streams()
    with _no_traceback():
        options, rest = parser.parse_known_args(arguments)
        command = COMMANDS[options.command]
        for flag, doctor in DOCTORS.items():
            if options.command == "doctor" and flag in rest:
                command = doctor
        sys.exit(_run(options.command, command, rest))


@contextmanager
def _no_traceback() -> Iterator[None]:
    """Ctrl-C, and a reader of standard output that has gone (`| head`), end a command quietly."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own flush
        sys.exit(1)


def _open_closed_streams() -> None:
    """Replace standard streams that are closed (`>&-`) by /dev/null: else the first socket would get their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - it stays open


def _run(name: str, command: Command, rest: Sequence[str]) -> int:
    """Run a command. Returns its exit code. If a package is missing, names the extra that installs it."""
    helping = bool({"-h", "--help"} & set(rest))
    try:
        missing = next((package for package in command.packages if find_spec(package) is None), None)
        if missing is not None and not helping:
            raise ModuleNotFoundError(name=missing)
        status: int = importlib.import_module(command.module).main(rest)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("mmplane"):
            raise
        needed = lacking(name, error.name, command.extra)
        if not helping:
            print(f"mmplane: {needed}", file=sys.stderr)
            return 2
        print(f"{_documentation(command.module)}\n\nWith all of its flags: {needed}")
        return 0
    return status


def _documentation(module: str) -> str | None:
    """A module's docstring, without importing the module."""
    source = find_spec(module)
    assert source is not None
    assert source.origin is not None
    return ast.get_docstring(ast.parse(Path(source.origin).read_text()))
