"""One process's access to the sidecar's workers: takes a file and returns a hold on its features, or a reason."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Literal, Self

from mmplane.embed.client import Client
from mmplane.embed.errors import BadMedia, Full, Lost, SidecarError, TooLarge, Unprofiled
from mmplane.embed.hold import SidecarHold
from mmplane.engines.kit.gauges import Gauges
from mmplane.engines.kit.tally import Tally
from mmplane.engines.sglang.processor.refusal import Overloaded

log = logging.getLogger("mmplane")

Way = Literal["theirs", "ours"]
STARTING, TRIAL = "starting", "trial"
REASONS = {
    "starting": "the sidecar is starting",
    "off": "the trial has failed",
    "unprofiled": "only SGLang knows how it decodes such a file",
    "bad_media": "the sidecar cannot decode it: SGLang says what is wrong",
    "too_large": "it is larger than the sidecar takes",
    "options": "the request has options that the sidecar does not have",
    "decoded": "it is an image that has already been decoded",
    "alpha": "its alpha channel is wanted",
    "video": "SGLang's frames of clips are not the sidecar's",
    "audio": "SGLang's samples of sounds are not the sidecar's",
    "full": "the sidecar is full: the request was refused",
    "worker_lost": "the worker that decoded it has ended: the request was refused",
    "no_sidecar": "the sidecar has ended",
    "error": "of an error in the sidecar",
}
"""Why the sidecar has not made a picture."""

_BY_ERROR = {Unprofiled: "unprofiled", TooLarge: "too_large", BadMedia: "bad_media", SidecarError: "error"}
"""The first matching class counts."""


COUNTED = {
    "processor_on": "Tokenizer processes whose pictures the sidecar makes",
    "pictures_seen": "Pictures of requests",
    "pictures_made": "Pictures that the sidecar has made",
}
PASSED_OVER = {"pictures_passed_over": "Pictures that SGLang decoded itself, by reason"}
"""Metrics in SGLang's `/metrics`."""


class Maker:
    """Makes nothing until `begin`: pictures take SGLang's own path and are counted by reason."""

    def __init__(self, *, shown: bool = False) -> None:
        self._client: Client | None = None
        self._options: Mapping[str, Any] | None = None
        self._reason = STARTING
        self._trial = threading.local()
        self._gave = threading.local()
        self._calls: list[object] = []
        self.tally = Tally(REASONS, log, what="picture")
        self._shown = shown
        if shown:
            self._counted, self._passed_over = Gauges(COUNTED), Gauges(PASSED_OVER, label="reason")

    def attach(self, client: Client, options: Mapping[str, Any]) -> None:
        """From now on a trial can make pictures, with these options of the checkpoint's processor."""
        self._client, self._options = client, options or None

    def begin(self) -> None:
        """From now on every request's pictures are made."""
        self._reason = ""
        self._show()

    def refuse(self, reason: str) -> None:
        """From now on every picture takes SGLang's own path."""
        self._reason = reason

    def reason(self) -> str:
        """Return why the calling thread's pictures are not made, or "" if they are."""
        way: Way | None = getattr(self._trial, "way", None)
        return self._reason if way is None else "" if way == "ours" else TRIAL

    def try_out(self, way: Way | None) -> None:
        """Choose the path of pictures that the calling thread submits; None: the same as all others."""
        self._trial.way = way

    def tried(self, call: object) -> bool:
        """Whether the trial called the image processor with these arguments. Before `begin` only the trial calls it."""
        if self._reason == STARTING and call not in self._calls:
            self._calls.append(call)
        return call in self._calls

    def gave(self, made: bool) -> None:
        """The image processor has given the calling thread features that the sidecar made, or its own."""
        self._gave.made = made

    def has_given(self) -> bool:
        """Whether the image processor has given the calling thread features of the sidecar's since this was asked."""
        made: bool = getattr(self._gave, "made", False)
        self._gave.made = False
        return made

    def pass_over(self, reason: str, detail: object = "") -> None:
        """Count a picture that is not made; those of the trial are not counted."""
        if reason != TRIAL:
            self.tally.seen()
            self.tally.passed_over(reason, detail)
            self._show()

    def __deepcopy__(self, _memo: object) -> Self:
        """SGLang copies a processor for each of its threads; all copies share one maker."""
        return self

    def make(self, content: bytes) -> SidecarHold | None:
        """Return the hold on a picture's features, or None if SGLang has to decode it. Raises Overloaded. Waits."""
        assert self._client is not None
        try:
            hold = self._client.materialise(content, modality="image", options=self._options)
        except Full as error:
            self.pass_over("full")
            raise Overloaded from error
        except Lost as error:
            if not self._client.is_attached:
                self.pass_over("no_sidecar")
                return None
            # The worker ended, perhaps because of this picture, which would then end this process as well.
            self.pass_over("worker_lost")
            raise Overloaded from error
        except SidecarError as error:
            self.pass_over(next(reason for kind, reason in _BY_ERROR.items() if isinstance(error, kind)), error)
            return None
        if self._reason != STARTING:
            self.tally.seen()
            self.tally.carried()
            self._show()
        return hold

    def _show(self) -> None:
        if self._shown:
            self._counted.show(self._counts)
            self._passed_over.show(self.tally.reasons)

    def _counts(self) -> dict[str, float]:
        figures = self.tally.figures()
        return {
            "processor_on": float(not self._reason),
            "pictures_seen": figures["features_seen"],
            "pictures_made": figures["features_carried"],
        }
