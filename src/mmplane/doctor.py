"""What `mmplane doctor` does, once its flags are read: the machine, a checkpoint, or parity with transformers.

A checkpoint's fast image processor is compared with transformers' own on the given images, or on generated ones of
several sizes. What else the checkpoint takes is tried on noise: the frames of videos against torch's resize, sounds
against transformers' NumPy path.

It loads transformers and torch, which the supervisor must not, and which take longer than telling of a wrong flag:
`mmplane.commands.doctor` imports this module when it is needed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mmplane.checkup import checkup, has_weights
from mmplane.core.errors import RequestError
from mmplane.core.findings import shown
from mmplane.core.records import BackendName
from mmplane.features.checkpoint.audio import AudioCheckpoint
from mmplane.features.contract.image import ImageProcessor, Pixels
from mmplane.features.facts import reason
from mmplane.features.families.names import FAST, KNOWN
from mmplane.features.reference.checkpoint import ReferenceCheckpoint
from mmplane.features.reference.huggingface import HuggingFaceImageProcessor
from mmplane.features.reference.parity import clips_of, difference, materialise, resizes_as_torch, same, ulps_apart
from mmplane.features.select import fast_images, fast_paths
from mmplane.machine import Facts
from mmplane.machine import findings as machine_findings
from mmplane.media.image import decode

SIZES = ((1120, 700), (1288, 966), (640, 480), (480, 640), (113, 64), (61, 150), (28, 28), (2000, 40), (3840, 2160))
"""Width and height in pixels of the generated images."""

SOUND_SAMPLES = (801, 16_000, 470_000)


@dataclass(frozen=True)
class Finding:
    """One line of the table. `agrees` is None if nothing could be compared."""

    subject: str
    size: str
    found: str
    agrees: bool | None


def run(options: argparse.Namespace) -> int:
    """Do what the flags say (`mmplane.commands.doctor.options_parser`); the exit status."""
    if options.model is not None:
        return model(options.model, options.backend, as_json=options.json)
    if options.parity is None:
        return machine(Facts())
    if has_weights(options.parity) and not (found := checkup(options.parity, options.backend)).servable:
        print(f"This checkpoint cannot be served: {found.reason}", file=sys.stderr)
        return 1
    findings = list(parity(options.parity, options.images, options.backend))
    print(f"{'what':32} {'size':>12}   {'largest difference':20} verdict")
    for finding in findings:
        verdict = {True: "equal", False: "DIFFERS", None: "not compared"}[finding.agrees]
        print(f"{finding.subject[:32]:32} {finding.size:>12}   {finding.found:20} {verdict}")
    return conclude(findings)


def model(model_folder: str, backend: BackendName, *, as_json: bool) -> int:
    """Print whether a checkpoint can be served. Returns the exit code."""
    found = checkup(model_folder, backend)
    if as_json:
        print(msgspec.json.encode(found).decode())
    elif found.servable:
        print(f"It can be served, with {' or '.join(map(str, found.tp))} rank(s).")
        for modality, name in found.processor.items():
            print(f"{modality:6} {name or 'not taken'}")
    else:
        print(f"It cannot be served: {found.reason}")
    return 0 if found.servable else 1


def machine(facts: Facts) -> int:
    """Print what this machine supports. Returns the exit code."""
    text, status = shown(machine_findings(facts))
    print(text)
    return status


def conclude(findings: Sequence[Finding]) -> int:
    """Print the conclusion. Returns the exit code."""
    compared = [finding for finding in findings if finding.agrees is not None]
    if not compared:
        print("\nNothing to compare: this checkpoint has no fast path here, or no file could be read.", file=sys.stderr)
        return 2
    wrong = sum(not finding.agrees for finding in compared)
    if wrong:
        print(f"\n{wrong} of {len(compared)} differ: a server takes transformers' own path for this checkpoint.")
        return 1
    print(f"\nAll {len(compared)} agree.")
    return 0


def parity(model_folder: str, images: Sequence[Path], backend: BackendName = "pil") -> Iterator[Finding]:
    """Everything that the checkpoint accepts and that has a fast processor here."""
    yield from _image_findings(model_folder, images, backend)
    yield from _video_findings(model_folder)
    yield from _audio_findings(model_folder)


def _image_findings(model_folder: str, images: Sequence[Path], backend: BackendName) -> Iterator[Finding]:
    try:
        reference_checkpoint = ReferenceCheckpoint.load(model_folder, backend)
    except Exception as error:  # noqa: BLE001 - transformers raises what it likes
        yield Finding("images", "", f"none ({reason(model_folder, error)})", None)
        return
    checkpoint = fast_images(model_folder, backend) or reference_checkpoint.described()
    family = FAST.get(checkpoint.kind)
    if family is None or not family.serves(checkpoint):
        yield Finding(checkpoint.kind, "", "no fast path", None)
        return
    fast, reference = family(checkpoint, "float32"), HuggingFaceImageProcessor(reference_checkpoint)
    for subject, pixels in _read(images) if images else _generated():
        if pixels is None:
            yield Finding(subject, "", "cannot be decoded", None)
        else:
            yield _compare(subject, fast, reference, pixels)


def _compare(subject: str, fast: ImageProcessor, reference: ImageProcessor, pixels: Pixels) -> Finding:
    height, width, _ = pixels.shape
    size = f"{width} x {height}"
    refusals = [_refuses(processor, pixels) for processor in (fast, reference)]
    if any(refusals):
        return Finding(subject, size, "refused by " + ("both" if all(refusals) else "one"), all(refusals))
    return Finding(subject, size, f"{difference(fast, reference, pixels):g}", same(fast, reference, pixels))


def _refuses(processor: ImageProcessor, pixels: Pixels) -> bool:
    try:
        materialise(processor, pixels)
    except RequestError:
        return True
    return False


def _read(images: Sequence[Path]) -> Iterator[tuple[str, Pixels | None]]:
    for path in images:
        try:
            yield path.name, decode(path.read_bytes())
        except (OSError, RequestError):
            yield path.name, None


def _generated() -> Iterator[tuple[str, Pixels]]:
    """Noise, in which every value is next to every other, and a gradient, which shows rounding."""
    noise = np.random.default_rng(0)
    for width, height in SIZES:
        yield "noise", noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
    ramp = np.add.outer(np.arange(700), np.arange(1000)) * 255 // 1698
    yield "gradient", np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=2).astype(np.uint8)


def _video_findings(model_folder: str) -> Iterator[Finding]:
    try:
        kind, resample = clips_of(model_folder)
    except (OSError, ValueError):
        return
    if not fast_paths(model_folder, ["video"]):
        yield Finding(kind, "", "no fast path", None)
        return
    agrees = resizes_as_torch(resample)
    yield Finding("frames of videos, against torch", "", "0" if agrees else "more than 0", agrees)


def _audio_findings(model_folder: str) -> Iterator[Finding]:
    try:
        checkpoint = AudioCheckpoint.load(model_folder, KNOWN)
    except (OSError, ValueError):
        return
    noise = np.random.default_rng(0)
    for samples in SOUND_SAMPLES:
        ulps = ulps_apart(checkpoint, noise.uniform(-1, 1, samples).astype(np.float32))
        yield Finding("noise, against the NumPy path", f"{samples} samples", f"{ulps} ulp", ulps <= 1)
