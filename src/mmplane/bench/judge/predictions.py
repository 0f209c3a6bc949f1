"""Verdicts on the predictions of `mmplane.bench.judge.analyses`, from a run's JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec

from mmplane.bench.judge.analyses import PREDICTIONS, Prediction
from mmplane.bench.judge.evidence import SETTINGS, evidence, quiet
from mmplane.bench.judge.joined import Found
from mmplane.bench.judge.measures import Measured

COLUMNS = ("prediction", "implied", *SETTINGS, "verdict", "why")
NO_FIGURE = "-"


class Verdict(msgspec.Struct, frozen=True):
    """One line of the table. `agrees` is None if there is no figure or no verdict."""

    prediction: Prediction
    cells: tuple[str, ...]
    """The figure in each setting; that of the setting that the prediction is about is bold."""
    agrees: bool | None
    verdict: str
    why: str


def judged(found: Found) -> list[Verdict]:
    """Judge every prediction by a run's JSON."""
    settings = evidence(found)
    verdicts = []
    for prediction in PREDICTIONS:
        measured = {name: prediction.measure(settings[name]) for name in SETTINGS}
        agrees, verdict = _judge(prediction, measured[prediction.setting])
        cells = tuple(_cell(measured[name], bold=name == prediction.setting) for name in SETTINGS)
        verdicts.append(Verdict(prediction, cells, agrees, verdict, _why(prediction, measured)))
    return verdicts


def by_analysis(verdicts: Sequence[Verdict]) -> list[tuple[str, list[Verdict]]]:
    """Group verdicts by analysis, keeping their order."""
    return [(name, list(group)) for name, group in groupby(verdicts, key=lambda each: each.prediction.analysis)]


def line(verdict: Verdict) -> tuple[str, ...]:
    """Return the cells of one row of the table, for all output formats."""
    prediction = verdict.prediction
    said = f'"{prediction.quote}": {prediction.what}'
    return said, prediction.implied, *verdict.cells, verdict.verdict, verdict.why


def _judge(prediction: Prediction, measured: Measured | None) -> tuple[bool | None, str]:
    if measured is None:
        return None, "no figure"
    if prediction.at is not None and measured.at is not None and measured.at not in prediction.at:
        return None, f"no verdict: measured with {measured.at} at once"
    if not all(map(quiet, measured.rows)):
        return None, "no verdict: the machine was busy"
    agrees = prediction.low <= measured.value <= prediction.high
    return agrees, "holds" if agrees else "does not hold"


def _cell(measured: Measured | None, *, bold: bool) -> str:
    if measured is None:
        return NO_FIGURE
    return f"**{measured.text}**" if bold else measured.text


def _why(prediction: Prediction, measured: dict[str, Measured | None]) -> str:
    """Return the figures of the prediction's setting, or of the first setting that has any, and the reason for them."""
    here = measured[prediction.setting] or next((each for each in measured.values() if each), None)
    return f"{_sentence(here.figures)}: {_lower(prediction.because)}" if here else prediction.because


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    """Lower the first letter for use after a colon, unless the text begins with a name."""
    return text if text[:1] == "`" or text[1:2].isupper() or text[1:2].isdigit() else text[:1].lower() + text[1:]
