"""Guardbook guards AI agents: it decides on what they read, say and do before it
happens, and keeps the book of it.

>>> from guardbook import Guard
>>> guard = Guard(agent="billing-bot")
>>> client = guard.wrap(OpenAI())
"""

from .decision import Content, Decision, Finding, Interaction, Kind, Tool
from .errors import GuardBlocked, GuardError, GuardUnavailable
from .guard import Guard
from .scope import Scope

__version__ = "0.1.0"

__all__ = [
    "Content",
    "Decision",
    "Finding",
    "Guard",
    "GuardBlocked",
    "GuardError",
    "GuardUnavailable",
    "Interaction",
    "Kind",
    "Scope",
    "Tool",
]
