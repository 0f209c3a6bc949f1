"""An engine that does not exist: what the kit's tests hook."""

from __future__ import annotations

__version__ = "1.2.3"


def build(size: int, *, colour: str = "red") -> str:
    return f"{size} {colour}"


async def fetch(name: str) -> str:
    return f"fetched {name}"


class Base:
    def inherited(self, message: str) -> str:
        return f"{type(self).__name__} {message}"


class Engine(Base):
    def __init__(self, name: str) -> None:
        self.name = name

    def send(self, message: str, engine: int = 0) -> str:
        return f"{self.name} {message} {engine}"

    @classmethod
    def launch(cls, count: int) -> str:
        return f"{cls.__name__} {count}"

    @staticmethod
    def plan(count: int) -> int:
        return 2 * count


class Derived(Engine):
    pass


NOT_A_FUNCTION = 7


def self_test_passes() -> None:
    return None


def self_test_fails() -> str:
    return "3 bytes of 4"


def self_test_raises() -> None:
    raise RuntimeError("no such codec")
