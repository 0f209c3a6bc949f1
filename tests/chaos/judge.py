"""What may come of a round's questions: an answer is right, anything else is a refusal in time. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.chaos.client import BROKEN, Answer
from tests.chaos.table import BACK_LIMIT_S, Round, Victim

REFUSED = 503


def refused_s_max(round_: Round, victim: Victim) -> float:
    """How long a question may wait for a refusal: until the loss is noticed, and what lost it is back."""
    return BACK_LIMIT_S + (victim.noticed_s if round_.signal == "SIGSTOP" else 0.0)


def allowed(round_: Round, victim: Victim) -> set[int]:
    """Statuses that may come of a question beside a right answer: none where nothing may change."""
    if round_.victim == "client" or (round_.victim == "supervisor" and round_.signal == "SIGSTOP"):
        return set()
    return {REFUSED, BROKEN} if victim.breaks else {REFUSED}


def objections(answers: Sequence[Answer], *, allowed: set[int], refused_s_max: float) -> list[str]:
    """What is wrong with these answers, in words."""
    found = []
    for answer in answers:
        if answer.status == 200:
            if not answer.right:
                found.append(f"a wrong answer ({answer.kind}): {answer.said}")
        elif answer.status not in allowed:
            found.append(f"status {answer.status} ({answer.kind}): {answer.said}")
        elif answer.took_s > refused_s_max:
            found.append(f"status {answer.status} ({answer.kind}) after {answer.took_s:.1f} s")
    return found


def tally(answers: Sequence[Answer]) -> dict[str, Any]:
    """Counts by status, and the longest that a refusal took."""
    refused_s = [answer.took_s for answer in answers if answer.status != 200]
    counts = Counter(str(answer.status) for answer in answers)
    return {"answers": dict(sorted(counts.items())), "refused_s_max": round(max(refused_s, default=0.0), 3)}
