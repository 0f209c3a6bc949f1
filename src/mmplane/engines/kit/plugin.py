"""An engine's entry point: judges this engine, applies every hook or none, and logs the decision in one line.

An exception in a plugin's `load()` ends some engines, so none escapes.
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

    `engine` is the engine's name as its users write it ("SGLang"), `package` is imported for its `__version__`.
    `tested` are the versions that the tests run with, in ascending order. `hooks` is the dotted path of the table of
    `Hook`s, and `self_test` that of a function that returns a problem or None. Both are imported only when needed,
    because they use internals that another version may not have. `logger` is the name of a logger whose lines the
    engine shows.
    """

    engine: str
    package: str
    tested: tuple[str, ...]
    hooks: str
    self_test: str | None = None
    logger: str = "mmplane"
    compared: str = ""
    """A version newer than the tested ones whose names and signatures were compared."""
    judged: Verdict | None = field(default=None, init=False)
    """The result of `load`."""

    def load(self, apply: Callable[[tuple[Hook, ...]], object]) -> None:
        """Apply all hooks, or log why none is applied. Never raises.

        A child process that inherits this process's environment does not log the same line again.
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
        """Return whether this plugin is on in the installed engine. Never raises."""
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
        """Return a problem of the hooks or of the self-test. Never raises."""
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
        """Return the hooks. Raises whatever their modules raise when they are imported."""
        table: tuple[Hook, ...] = pkgutil.resolve_name(self.hooks)
        return table

    def variable(self, template: str) -> str:
        """The variable that allows untested versions, for example `MMPLANE_SGLANG_UNTESTED`."""
        return template.format(self.engine.upper())

    def _say(self, reason: str) -> None:
        said = self.variable(_SAID)
        if os.environ.get(said) != reason:
            os.environ[said] = reason.replace("\0", "")
            logging.getLogger(self.logger).warning("mmplane: off: %s", reason)
