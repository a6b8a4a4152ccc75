"""What ``Guard.wrap`` takes, and who takes it. A framework's module is imported when an
object of that framework is wrapped, and not before."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .guard import Guard

__all__ = ["wrap"]

_SUPPORTED = (
    "OpenAI, AsyncOpenAI, AzureOpenAI, AsyncAzureOpenAI, Anthropic and AsyncAnthropic clients, "
    "LangChain chat models, MCP client sessions, and agents of the OpenAI Agents SDK"
)

#: Where an object's class is from, and who wraps it: module and function.
_FRAMEWORKS = {
    "langchain": ("langchain", "guard_model"),
    "langchain_core": ("langchain", "guard_model"),
    "mcp": ("mcp", "guard_session"),
    "agents": ("openai_agents", "guard_agent"),
    "crewai": ("crewai", "guard_llm"),
}


def wrap(guard: Guard, x: Any, about: dict[str, Any]) -> Any:
    """Wraps x by what it is."""
    from .models import is_model_client, wrap_model_client

    if is_model_client(x):
        unknown = sorted(about.keys() - {"tool_calls"})
        if unknown:
            raise TypeError(f"wrap() of a model client takes no {', '.join(unknown)}")
        return wrap_model_client(guard, x, **about)
    for cls in type(x).__mro__:
        found = _FRAMEWORKS.get(cls.__module__.partition(".")[0])
        if found is not None:
            module = importlib.import_module(f"{__package__}.frameworks.{found[0]}")
            return getattr(module, found[1])(guard, x, **about)
    name = f"{type(x).__module__}.{type(x).__qualname__}"
    raise TypeError(f"Guard.wrap() does not know what to do with {name}; it takes {_SUPPORTED}")
