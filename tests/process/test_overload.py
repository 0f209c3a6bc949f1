"""More than the server can do: the surplus is refused and told when to come again, what is accepted is right."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from live import Live, serving
from pictures import part, text
from test_leaving import quiet
from test_reading import TOKENS_MAX, drawings

from mmplane.demo import QUESTION
from polling import until

AT_ONCE = 48
RUNNING_MAX, QUEUE_MAX = 2, 4
PICTURES = 120
RIGHT_SHARE = 0.9
"""The model reads nearly all of them, and a crossed picture never."""


def alone(live: Live, picture: bytes) -> str:
    """What the model says when nobody else asks."""
    answer = live.chat([part(picture), text(QUESTION)], max_tokens=TOKENS_MAX).raise_for_status().json()
    said: str = answer["choices"][0]["message"]["content"]
    return said


def test_a_surplus(trained_folder: Path) -> None:
    flags = ("--running-max", f"{RUNNING_MAX}", "--queue-max", f"{QUEUE_MAX}")
    with serving(trained_folder, *flags) as live:
        shown = drawings(PICTURES)

        def ask(picture: bytes) -> tuple[int, str]:
            answer = live.chat([part(picture), text(QUESTION)], max_tokens=TOKENS_MAX)
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] == "overloaded"
                assert int(answer.headers["retry-after"]) > 0
                return 503, ""
            return answer.status_code, answer.json()["choices"][0]["message"]["content"]

        with ThreadPoolExecutor(AT_ONCE) as threads:
            answers = list(threads.map(ask, [picture for _, picture in shown]))
        counts = Counter(status for status, _ in answers)
        assert set(counts) == {200, 503}, counts
        accepted = [
            (number, picture, said)
            for (number, picture), (status, said) in zip(shown, answers, strict=True)
            if status == 200
        ]
        assert sum(said == number for number, _, said in accepted) >= RIGHT_SHARE * len(accepted)
        until(lambda: quiet(live), 60, "nothing is reserved, leased or in flight")
        assert live.statistics()["requests"]["by_status"] == {str(status): count for status, count in counts.items()}
        assert [said for _, _, said in accepted] == [alone(live, picture) for _, picture, _ in accepted]
