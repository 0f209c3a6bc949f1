"""`mmplane doctor`: what this machine allows, and whether what serves here gives the numbers that transformers gives.

    mmplane doctor
    mmplane doctor --model MODEL_FOLDER [--json]
    mmplane doctor --parity MODEL_FOLDER [--backend pil|torchvision] [IMAGE ...]
    mmplane doctor --sglang [URL]
    mmplane doctor --vllm [URL]
    mmplane doctor --ray [HOST:PORT]

The first lists what this machine can and cannot do for a server, with a fix for each problem. `--model` loads a
checkpoint without serving it and says whether it can be served and with how many ranks, or why not. `--parity` compares
the fast processors of a checkpoint with transformers' own, on the given images or on generated ones. `--sglang` and
`--vllm` check the plugin in the environment of that engine, and in the server at URL. `--ray` checks how a Ray cluster
is configured.

The exit code is 0 when all is well, 1 when something differs or is not allowed, and 2 when there is nothing to try.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import get_args

from mmplane.commands.checkpoint import check_files
from mmplane.commands.main import DOCTORS
from mmplane.commands.model import model_folder
from mmplane.commands.starting import refuse
from mmplane.core.records import BackendName, Modality
from mmplane.parser import Parser

EXAMPLE = "mmplane doctor --model ./Qwen2.5-VL-3B-Instruct --json"


def options_parser() -> argparse.ArgumentParser:
    """The flags. Those of `DOCTORS`, which have parsers of their own, are here for --help and completion."""
    parser = Parser(prog="mmplane doctor", description=__doc__, example=EXAMPLE)
    what = parser.add_argument_group("what to check (default: this machine)").add_mutually_exclusive_group()
    what.add_argument("--model", metavar="MODEL_FOLDER", help="whether this checkpoint can be served")
    what.add_argument("--parity", metavar="MODEL_FOLDER", help="whether its fast processors give transformers' bits")
    for flag, doctor in DOCTORS.items():
        what.add_argument(flag, nargs="?", metavar=doctor.takes, help=doctor.help)
    how = parser.add_argument_group("how")
    how.add_argument("--json", action="store_true", help="with --model: print one JSON object")
    how.add_argument("--backend", choices=get_args(BackendName), default="pil", help="of transformers' processor")
    parser.add_argument("images", metavar="IMAGE", nargs="*", type=Path, help="for --parity (default: generated ones)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """The command; its exit code. Nothing that takes long is imported before the flags are known to be right."""
    parser = options_parser()
    options = parser.parse_args(arguments)
    if options.json and options.model is None:
        parser.error("--json needs --model")
    if options.images and options.parity is None:
        parser.error(f"{options.images[0]}: images are for --parity")
    try:
        for flag in ("model", "parity"):
            if (given := getattr(options, flag)) is not None:
                setattr(options, flag, _checked(f"--{flag}", given))
    except ValueError as error:
        return _refuse_as_json(error) if options.json else refuse(error)
    checked: int = import_module("mmplane.doctor").run(options)
    return checked


def _checked(flag: str, model: str) -> str:
    """The folder, or hub id, of a checkpoint whose JSON files can be read. Raises ValueError."""
    try:
        folder = model_folder(model)
        check_files(folder)
    except ValueError as error:
        raise ValueError(str(error).replace("--model", flag, 1)) from None
    return folder


def _refuse_as_json(error: ValueError) -> int:
    """As `mmplane.checkup.Checkup` says it of a checkpoint that was tried."""
    found = {"servable": False, "tp": [], "reason": str(error), "processor": dict.fromkeys(get_args(Modality))}
    print(json.dumps(found))
    return 1
