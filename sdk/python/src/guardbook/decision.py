"""Decisions, as the guard makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Content", "Decision", "Finding", "Interaction", "Kind", "Tool"]

#: What an interaction is.
Kind = Literal["input", "output", "tool_call", "tool_result", "tool_definition", "memory"]

#: Texts of an interaction: a string, or parts ``{"type": "text", "text": ...}``. A part
#: that is no text has only its type (``image``, ``audio``, ``file``).
Content = str | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Tool:
    """A tool that is called, or that gave a result."""

    #: The tool's name, as the model calls it.
    name: str
    #: Arguments by name. What JSON has no word for is sent as text.
    arguments: Mapping[str, Any] | None = None
    #: The server that the tool is from, if any (an MCP server's configured name).
    server: str = ""
    #: The call's id, if the model gave one.
    call_id: str = ""


@dataclass(frozen=True)
class Interaction:
    """One thing to decide on, for ``Guard.decide_batch``. The members are those of
    ``Guard.decide``."""

    kind: Kind
    content: Content | None = None
    tool: Tool | None = None
    role: str = ""
    context: str | None = None
    session: str | None = None
    thread: str | None = None
    user: str | None = None
    parent: str | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that a detector saw."""

    #: The threat class: ``prompt_injection``, ``pii``, ``secret``, ...
    cls: str
    severity: str
    #: A calibrated probability, 0 to 1.
    confidence: float
    rule: str
    #: ``policy``, ``L1``, ``L2`` or ``L3``.
    layer: str
    message: str = ""
    #: What was matched, with everything sensitive masked.
    excerpt: str = ""


@dataclass(frozen=True)
class Decision:
    """What the guard decided about one interaction."""

    #: ``allow``, ``log``, ``flag``, ``redact``, ``hold`` or ``block``.
    decision: str
    #: Id of its entry in the book; empty when no decision could be had.
    entry: str = ""
    #: The rule that decided.
    rule: str = ""
    severity: str = ""
    #: For people, and for the model when a tool is denied.
    message: str = ""
    findings: Sequence[Finding] = ()
    policy: str = ""
    #: ``enforce`` or ``monitor``.
    mode: str = ""
    #: In monitor mode: what would have been decided. It is never obeyed.
    would: str = ""
    #: The redacted content, when the decision is ``redact``.
    content: Any = None
    #: The redacted arguments, when the decision is ``redact``.
    arguments: Mapping[str, Any] | None = None
    #: False when the guard could not be asked and the interaction passes without a
    #: decision (it is recorded as such).
    guarded: bool = True
    #: This process's number of the interaction.
    client_seq: int = 0

    @property
    def blocked(self) -> bool:
        """Whether the interaction must not happen. ``hold`` is obeyed as ``block``."""
        return self.decision in ("block", "hold")

    @property
    def redacted(self) -> bool:
        """Whether what happens must be ``content`` or ``arguments`` of this decision
        in the place of what was asked about."""
        return self.decision == "redact"


def read_decision(answer: Mapping[str, Any], seq: int = 0) -> Decision:
    """Reads a decision as the server tells it."""
    return Decision(
        decision=answer["decision"],
        entry=answer.get("entry", ""),
        rule=answer.get("rule", ""),
        severity=answer.get("severity", ""),
        message=answer.get("message", ""),
        findings=tuple(
            Finding(
                cls=f.get("class", ""),
                severity=f.get("severity", ""),
                confidence=f.get("confidence", 0.0),
                rule=f.get("rule", ""),
                layer=f.get("layer", ""),
                message=f.get("message", ""),
                excerpt=f.get("excerpt", ""),
            )
            for f in answer.get("findings") or ()
        ),
        policy=answer.get("policy", ""),
        mode=answer.get("mode", ""),
        would=answer.get("would", ""),
        content=answer.get("content"),
        arguments=answer.get("arguments"),
        client_seq=seq,
    )
