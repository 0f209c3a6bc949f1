"""An engine's entry point: judge this engine, apply every hook or none, and say in one line what was decided.

An exception that escapes from a plugin's `load()` ends some engines, so none does.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field

from mmplane.engines.kit.hooks import Hook, existing, problem
from mmplane.engines.kit.verdict import Verdict, judge

UNTESTED = "MMPLANE_{}_UNTESTED"
_SAID = "MMPLANE_{}_SAID"


@dataclass
class Plugin:
    """One plugin.

    `engine` is the engine's name as its users write it ("SGLang"), `package` what is imported for its `__version__`.
    `tested` are the versions that the tests run with, in ascending order. `hooks` is the dotted path of the table of
    `Hook`s. `self_test` that of a function which returns the trouble or None: both are imported when they are needed,
    since they stand on internals that another version may not have. `logger` is the name of one whose lines the engine
    shows.
    """

    engine: str
    package: str
    tested: tuple[str, ...]
    hooks: str
    self_test: str | None = None
    logger: str = "mmplane"
    compared: str = ""
    """A newer version than the tested ones, of which names and signatures were compared."""
    judged: Verdict | None = field(default=None, init=False)
    """What `load` has found."""

    def load(self, apply: Callable[[tuple[Hook, ...]], object]) -> None:
        """Apply all hooks, or log why none is. Never raises.

        A child process that inherits this one's environment does not log the same line again.
        """
        try:
            self.judged = self.verdict()
            if self.judged.is_on:
                apply(existing(self.table()))
            else:
                self._say(self.judged.says)
        except Exception as error:
            self._say(f"{type(error).__name__}: {error}")
            logging.getLogger(self.logger).debug("mmplane: off", exc_info=True)

    def verdict(self) -> Verdict:
        """Whether this plugin is on in the engine that is installed here. Never raises."""
        try:
            version = importlib.import_module(self.package).__version__
        except Exception as error:  # noqa: BLE001 - an engine may raise anything while it is imported
            return Verdict(False, f"{self.engine} cannot be imported ({error})")
        variable = self.variable(UNTESTED)
        allowed = "" if os.environ.get(variable) == "1" else variable
        return judge(
            self.engine, version, tested=self.tested, compared=self.compared, allowed=allowed, check=self.trouble
        )

    def trouble(self) -> str | None:
        """What is wrong with the hooks, or with the self-test. Never raises."""
        try:
            trouble = problem(self.table())
            if trouble is not None or self.self_test is None:
                return trouble
            said: str | None = pkgutil.resolve_name(self.self_test)()
        except (ImportError, AttributeError) as error:
            return f"this {self.engine} lacks what is hooked ({error})"
        except Exception as error:  # noqa: BLE001 - a self-test that raises has failed
            return f"the self-test failed ({type(error).__name__}: {error})"
        return None if said is None else f"the self-test failed: {said}"

    def table(self) -> tuple[Hook, ...]:
        """The hooks. Raises what their modules raise when they are imported."""
        table: tuple[Hook, ...] = pkgutil.resolve_name(self.hooks)
        return table

    def variable(self, template: str) -> str:
        """`MMPLANE_SGLANG_UNTESTED` of `UNTESTED`, for instance."""
        return template.format(self.engine.upper())

    def _say(self, reason: str) -> None:
        said = self.variable(_SAID)
        if os.environ.get(said) != reason:
            os.environ[said] = reason.replace("\0", "")
            logging.getLogger(self.logger).warning("mmplane: off: %s", reason)
