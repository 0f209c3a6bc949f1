"""A round: load, a hold, a signal, and what followed."""

from __future__ import annotations

import random
import tempfile
from functools import partial
from pathlib import Path
from signal import Signals
from time import monotonic
from typing import Any

import httpx
import msgspec
import psutil
from live import Live, alive, shared_memory
from preloaded import Preloaded
from tests.chaos import deck, judge, rest
from tests.chaos.client import BROKEN, Answer
from tests.chaos.deck import Deck, Question
from tests.chaos.holds import Holds
from tests.chaos.load import Load
from tests.chaos.table import BACK_LIMIT_S, FLAGS, GONE_LIMIT_S, NOTICE_SLACK_S, VICTIMS, Round, Victim

from polling import until

CARDS, CARDS_SHORT = 36, 12
"""Pictures that the load asks about, in `make chaos` and in the suite."""
WARM_ANSWERS = 40
"""Before the first look: allocators and caches have what they need."""
ANSWERS = 6
"""Right ones under load before each signal, and while nothing may change."""
ASK_LIMIT_S = 30.0
SETTLE_LIMIT_S = 10.0
LOG_LINES = 40


class Ground:
    """A server to play on, started anew after a round that has ended it. `patience` stretches what a round may take.
    `warm_answers` come before its first look: after fewer it may find memory that grows.

    It is forked from `preloaded`, which has the environment of `holds`. A `short` one has fewer pictures.
    """

    def __init__(
        self, model_folder: Path, holds: Holds, preloaded: Preloaded, *, patience: float = 1.0, short: bool = False
    ) -> None:
        self._model_folder = model_folder
        self.patience = patience
        self.warm_answers = WARM_ANSWERS
        self._cards_count = CARDS_SHORT if short else CARDS
        self._holds = holds
        self._preloaded = preloaded
        self._cards = Path(tempfile.mkstemp(prefix="chaos-cards-")[1])
        self._live: Live | None = None

    def close(self) -> None:
        """End the server."""
        if self._live is not None:
            self._live.stop()
        self._cards.unlink()

    def play(self, round_: Round) -> dict[str, Any]:
        """One round: what was seen. `why` says what was wrong; the next round has a fresh server then."""
        if self._live is None:
            self._start()
        seen: dict[str, Any] = msgspec.to_builtins(round_) | {"noticed_s": None, "back_s": None}
        why: list[str] = []
        try:
            why += self._play(round_, seen)
        except AssertionError as error:
            why.append(str(error))
        if why and self._live is not None:
            seen["log"] = self._live.log[-LOG_LINES:]
            self._live.kill()
            self._live.stop()
            self._live = None
        return seen | {"ok": not why, "why": why}

    @property
    def live(self) -> Live:
        """The server."""
        assert self._live is not None
        return self._live

    def _start(self) -> None:
        self._holds.let_go()
        self._live = Live(self._model_folder, *FLAGS, preloaded=self._preloaded)
        if not self._cards.stat().st_size:
            found = deck.cards(self._cards_count, self._say)
            self._cards.write_bytes(msgspec.msgpack.encode(found))
        self._deck = Deck(
            msgspec.msgpack.decode(self._cards.read_bytes(), type=list[deck.Card]), self.live.supervisor.pid
        )
        with Load(self.live.url, self._cards, 0) as load:
            load.more(self.warm_answers)
        self._first = self._last = rest.look(self.live, self._limit_s(SETTLE_LIMIT_S))

    def _say(self, body: dict[str, Any]) -> str:
        said: str = self.live.http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
        return said

    def _play(self, round_: Round, seen: dict[str, Any]) -> list[str]:
        victim = VICTIMS[round_.victim]
        with Load(self.live.url, self._cards, round_.seed) as load:
            load.more(ANSWERS)
            held = self._holds.at(round_.stage, round_.holder)
            process = self._process(round_, held, load)
            title = next((title for title, pid in self._last.pids.items() if pid == process.pid), "")
            replaced = tuple(each.format(title) for each in victim.replaced)
            try:
                began_s = monotonic()
                process.send_signal(Signals[round_.signal])
                until(lambda: _stopped(process) or not alive([process.pid]), self._limit_s(5), "the signal has arrived")
            finally:
                self._holds.let_go()
            if replaced:
                self._comes_back(round_, victim, process, replaced, began_s, seen)
            elif round_.victim == "supervisor" and round_.signal == "SIGKILL":
                self._all_ends(began_s, seen)
            else:
                self._nothing_changes(round_, process, load)
            load.end()
        seen |= judge.tally(load.answers)
        slowest_s = self._limit_s(judge.refused_s_max(round_, victim))
        why = judge.objections(load.answers, allowed=judge.allowed(round_, victim), refused_s_max=slowest_s)
        if self._live is None:
            return why
        now = rest.look(self.live, self._limit_s(SETTLE_LIMIT_S))
        seen["memory_mb"] = {title: length_bytes >> 20 for title, length_bytes in now.memory_bytes.items()}
        seen["descriptors"] = sum(now.descriptors.values())
        why += rest.grown(self._first, now) + rest.misplaced(self._last, now, replaced)
        self._last = now
        return why

    def _process(self, round_: Round, held: int, load: Load) -> psutil.Process:
        """Whom to hit: who is held, if it has that role."""
        if round_.victim == "client":
            return psutil.Process(load.process.pid)
        if round_.victim == round_.holder:
            return psutil.Process(held)
        titles = {"leader": "rank 0/2", "follower": "rank 1/2"}
        title = titles.get(round_.victim, round_.victim)
        processes = self.live.processes()
        found = [process for each, process in sorted(processes.items()) if each.startswith(title)]
        return random.Random(round_.seed).choice(found)

    def _comes_back(
        self,
        round_: Round,
        victim: Victim,
        process: psutil.Process,
        replaced: tuple[str, ...],
        began_s: float,
        seen: dict[str, Any],
    ) -> None:
        """It ends, all that must be are replaced, and a picture that nobody has sent is answered."""
        limit_s = self._limit_s(victim.noticed_s + NOTICE_SLACK_S)
        until(lambda: not alive([process.pid]), limit_s, f"{round_.victim} has ended")
        ended_s = monotonic()
        seen["noticed_s"] = round(ended_s - began_s, 3)
        kind = "long" if round_.victim == "parser" else "fresh"
        until(partial(self._is_back, replaced, kind), self._limit_s(BACK_LIMIT_S), "service is back")
        seen["back_s"] = round(monotonic() - ended_s, 3)

    def _is_back(self, replaced: tuple[str, ...], kind: str) -> bool:
        now = self.live.pids()
        new = all(now.get(title, pid) != pid for title, pid in self._last.pids.items() if title.startswith(replaced))
        return new and self._ask(self._deck.draw(kind)).status == 200

    def _nothing_changes(self, round_: Round, process: psutil.Process, load: Load) -> None:
        """Others are served while it is dead or stands still; then it goes on."""
        if round_.victim == "supervisor":
            load.more(ANSWERS)
        else:
            for _ in range(ANSWERS):
                assert self._ask(self._deck.draw("fresh")).status == 200, "others are served"
        if round_.signal == "SIGSTOP":
            process.resume()
            load.more(ANSWERS)

    def _all_ends(self, began_s: float, seen: dict[str, Any]) -> None:
        """Nothing is left of a server whose supervisor was killed."""
        pids = list(self._last.pids.values())
        until(lambda: not alive(pids), self._limit_s(GONE_LIMIT_S), "all processes have ended")
        seen["noticed_s"] = round(monotonic() - began_s, 3)
        self.live.stop()
        self._live = None
        left = [name for name in shared_memory() if "mmplane" in name]
        assert not left, f"left behind: {left}"

    def _ask(self, question: Question) -> Answer:
        """A question from outside of the load. Raises AssertionError when the answer is wrong."""
        began_s = monotonic()
        try:
            answer = httpx.post(f"{self.live.url}/v1/chat/completions", json=question.body, timeout=ASK_LIMIT_S)
        except httpx.TransportError as error:
            return Answer(question.kind, BROKEN, False, monotonic() - began_s, type(error).__name__)
        said = answer.json()["choices"][0]["message"]["content"] if answer.is_success else answer.text
        assert not answer.is_success or said == question.right, f"a wrong answer: {said} is not {question.right}"
        assert answer.status_code in (200, judge.REFUSED), answer.text
        return Answer(question.kind, answer.status_code, answer.is_success, monotonic() - began_s, said)

    def _limit_s(self, limit_s: float) -> float:
        return limit_s * self.patience


def _stopped(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False
