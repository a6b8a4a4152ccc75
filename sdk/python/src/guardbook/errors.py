"""The errors that Guardbook raises.

``GuardBlocked`` says no; ``GuardUnavailable`` says that nobody could be asked. They
are different errors on purpose: the first is final, the second may be tried again.
"""

from __future__ import annotations

from collections.abc import Sequence

from .decision import Decision, Finding

__all__ = ["GuardBlocked", "GuardError", "GuardUnavailable"]


class GuardError(Exception):
    """Guardbook cannot do what it was asked: a wrong setting, a refused request."""


class GuardBlocked(GuardError):
    """The guard said no. Its message is for people, and may be shown to the model.

    Do not retry: the same interaction gets the same decision.
    """

    #: What was decided.
    decision: Decision

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.message or f"Blocked by policy (entry {decision.entry}).")
        self.decision = decision

    @property
    def entry(self) -> str:
        """Id of the decision's entry in the book."""
        return self.decision.entry

    @property
    def rule(self) -> str:
        """The rule that decided."""
        return self.decision.rule

    @property
    def severity(self) -> str:
        """``info``, ``low``, ``medium``, ``high`` or ``critical``."""
        return self.decision.severity

    @property
    def message(self) -> str:
        """One or two sentences for people."""
        return str(self)

    @property
    def findings(self) -> Sequence[Finding]:
        """What the detectors saw."""
        return self.decision.findings


class GuardUnavailable(GuardError):
    """No decision could be had in time, and this interaction may not pass without one.

    It may be tried again: ``retryable`` is True, and ``retry_after`` says how many
    seconds to wait.
    """

    retryable: bool = True

    def __init__(self, message: str, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
