"""CrewAI, 1.5.0 and newer.

``guard.crewai()`` registers hooks for every crew of the process. Call it before
``Crew(...)``: agents take the hooks over when they are made.

CrewAI takes an error in a hook for consent, so none of these hooks raises one, but for
the one error that CrewAI obeys (since 1.15.3).

CrewAI hands tokens of a streaming model to the application before any hook. Either
guard the model's client (``llm = guard.wrap(LLM(...), tool_calls="asked")``), which judges
them on the way, or its answers are not streamed. ``tool_calls="asked"`` says that these
hooks are registered: a call that policy denies is refused when it is to run, and the agent
goes on. Without it, the call ends the task.
"""

from __future__ import annotations

import copy
import functools
import importlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from crewai.hooks import llm_hooks, tool_hooks

from ..decision import Decision, Tool
from ..errors import GuardBlocked, GuardError
from ..models import is_model_client
from .judge import Judge, Question, Ruling, arguments_of, is_guarded, json_text, parts_of, put_back, task_of, text_of

__all__ = ["CrewHooks", "guard_crew", "guard_llm"]

VIA = "python/crewai"

#: What CrewAI tells the model of a call that a hook has refused.
_BLOCKED = "Tool execution blocked by hook. Tool: "
#: Where CrewAI's models keep their clients, by version.
_CLIENTS = ("client", "async_client", "_client", "_async_client")

try:
    _HookAborted: Any = importlib.import_module("crewai.hooks.dispatch").HookAborted
except ImportError:  # before 1.15.3
    _HookAborted = None


def guard_crew(guard: Any) -> CrewHooks:
    """Registers the hooks, once for each guard."""
    registered = tool_hooks._before_tool_call_hooks
    for hook in registered:
        ours = getattr(hook, "guardbook_hooks", None)
        if isinstance(ours, CrewHooks) and ours.judge.guard is guard:
            return ours
    made = CrewHooks(guard)
    made.register()
    return made


def guard_llm(guard: Any, llm: Any, *, tool_calls: str | None = None) -> Any:
    """A copy of a CrewAI model whose client is guarded, streams and all.

    ``tool_calls="asked"``: ``guard.crewai()`` asks about each call before it runs.
    """
    made = llm.model_copy() if hasattr(llm, "model_copy") else copy.copy(llm)
    for name in ("_get_sync_client", "_get_async_client"):  # makes the client if there is none yet
        if callable(getattr(made, name, None)):
            getattr(made, name)()
    wrapped = False
    for name in _CLIENTS:
        client = getattr(made, name, None)
        if client is not None and is_model_client(client):
            setattr(made, name, guard.wrap(client, tool_calls=tool_calls))
            wrapped = True
    if not wrapped:
        raise GuardError(
            f"{type(llm).__name__} has no client of OpenAI or Anthropic that could be guarded; guard.crewai() judges "
            "what goes in and out of it"
        )
    return made


if _HookAborted is not None:

    class CrewBlocked(_HookAborted, GuardBlocked):  # type: ignore[misc]
        """A block, as CrewAI obeys it and as ``except GuardBlocked`` catches it."""

        def __init__(self, error: GuardError) -> None:
            GuardBlocked.__init__(self, getattr(error, "decision", None) or Decision("block", message=str(error)))
            self.reason, self.source = str(error), "guardbook"


class CrewHooks:
    """The hooks of one guard."""

    def __init__(self, guard: Any) -> None:
        self.judge = Judge(guard, VIA)
        self._reasons: OrderedDict[int, tuple[Any, str, str]] = OrderedDict()
        self._lock = threading.Lock()
        self._hooks: list[tuple[list[Any], Any]] = []

    def register(self) -> None:
        """Puts the hooks in their places."""
        for registered, hook, failed in (
            (tool_hooks._before_tool_call_hooks, self.before_tool, False),
            (tool_hooks._after_tool_call_hooks, self.after_tool, _UNREAD),
            (llm_hooks._before_llm_call_hooks, self.before_llm, False),
            (llm_hooks._after_llm_call_hooks, self.after_llm, _UNREAD),
        ):
            safe = self._safe(hook, failed)
            if _HookAborted is None:
                # An error in anybody's hook ends the loop over all: ours comes first.
                registered.insert(0, safe)
            else:
                registered.append(safe)
            self._hooks.append((registered, safe))

    def remove(self) -> None:
        """Takes the hooks away again."""
        for registered, hook in self._hooks:
            if hook in registered:
                registered.remove(hook)
        self._hooks.clear()

    def _safe(self, hook: Callable[[Any], Any], failed: Any) -> Callable[[Any], Any]:
        @functools.wraps(hook)
        def guarded(context: Any) -> Any:
            try:
                return hook(context)
            except Exception as err:
                if _HookAborted is not None and isinstance(err, _HookAborted):
                    raise
                return failed

        guarded.guardbook_hooks = self  # type: ignore[attr-defined]
        return guarded

    # Tools.

    def before_tool(self, context: Any) -> bool | None:
        """Judges a tool call before it runs; False: it does not."""
        arguments = context.tool_input
        tool = Tool(str(context.tool_name), arguments=arguments_of(arguments))
        ruling = self.judge.ask(Question("tool_call", tool=tool, context=_task(context), thread=_thread(context)))[0]
        if ruling.denied:
            self._remember(arguments, str(context.tool_name), ruling.message)
            return False
        if ruling.arguments is not None:
            if not isinstance(arguments, dict):
                return False
            arguments.clear()
            arguments.update(ruling.arguments)
        return None

    def after_tool(self, context: Any) -> str | None:
        """Judges a result before the model reads it. Of a refused call, tells why."""
        name, result = str(context.tool_name), context.tool_result
        if isinstance(result, str) and result.startswith(_BLOCKED):
            return self._recall(context.tool_input, name)
        question = Question(
            "tool_result", parts_of(result), tool=Tool(name), context=_task(context), thread=_thread(context)
        )
        ruling = self.judge.ask(question)[0]
        if ruling.denied:
            return ruling.message
        return None if ruling.content is None else text_of(ruling.content)

    def _remember(self, arguments: Any, name: str, reason: str) -> None:
        with self._lock:
            self._reasons[id(arguments)] = (arguments, name, reason)
            while len(self._reasons) > 256:
                self._reasons.popitem(last=False)

    def _recall(self, arguments: Any, name: str) -> str | None:
        with self._lock:
            held = self._reasons.get(id(arguments))
            if held is not None and held[0] is arguments:
                return held[2]
            # Not the same object: the newest refusal of a tool of this name.
            return next((reason for _, n, reason in reversed(self._reasons.values()) if n == name), None)

    # The model.

    def before_llm(self, context: Any) -> bool | None:
        """Judges what the model will read; False: it is not called."""
        messages = context.messages
        for m in messages if _HookAborted is None else ():  # where no hook is told of a refused call
            if isinstance(m, dict) and isinstance(m.get("content"), str) and _BLOCKED in m["content"]:
                self._tell_why(m)
        llm = context.llm
        if _goes_through(llm):
            return None
        if getattr(llm, "stream", False):
            llm.stream = False
        task, thread = _task(context), _thread(context)
        asked = [_question(m, task, thread) for m in messages]
        for m, question, ruling in zip(messages, asked, self.judge.ask_new(*asked, one=True), strict=True):
            if ruling.denied:
                if question.kind != "tool_result":
                    return self._blocked(ruling)
                m["content"] = ruling.message
            elif ruling.content is not None:
                m["content"] = put_back(m.get("content"), ruling.content)
        return None

    def after_llm(self, context: Any) -> str | None:
        """Judges what the model has said."""
        said = context.response
        if said is None or _goes_through(context.llm):
            return None
        text = _spoken(said) if isinstance(said, str) else json_text(_dumped(said))
        ruling = self.judge.ask(Question("output", text, context=_task(context), thread=_thread(context)))[0]
        if not ruling.denied:
            if ruling.content is None:
                return None
            if isinstance(said, str):
                return text_of(ruling.content) + said[len(text) :]
            ruling = Ruling(error=GuardError("The answer holds data that may not be said."))
        self._blocked(ruling)
        return f"Thought: I may not say that.\nFinal Answer: {ruling.message}"

    def _blocked(self, ruling: Ruling) -> bool:
        """A block: CrewAI's own error, where it has one."""
        if _HookAborted is not None and ruling.error is not None:
            raise CrewBlocked(ruling.error) from ruling.error
        return False

    def _tell_why(self, message: dict[str, Any]) -> None:
        with self._lock:
            known = {name: reason for _, name, reason in self._reasons.values()}
        for name, reason in known.items():
            message["content"] = message["content"].replace(_BLOCKED + name, reason)


#: What takes the place of a text when a hook has failed.
_UNREAD = "Thought: The guard failed.\nFinal Answer: Guardbook could not judge this text, so it is not shown."


def _question(message: Any, task: str, thread: str | None) -> Question:
    if not isinstance(message, Mapping):
        return Question("input", json_text(message), role="user", context=task, thread=thread)
    role, parts = str(message.get("role") or "user"), parts_of(message.get("content"))
    if role in ("tool", "function"):
        return Question(
            "tool_result", parts, tool=Tool(str(message.get("name") or "tool")), context=task, thread=thread
        )
    role = {"system": "system", "developer": "system", "assistant": "assistant"}.get(role, "user")
    return Question("input", parts, role=role, context="" if role == "system" else task, thread=thread)


def _spoken(text: str) -> str:
    """An answer without the call in it, which is judged as a call before it runs."""
    at = text.find("\nAction:")
    return text if at < 0 or "Final Answer:" in text else text[:at]


def _task(context: Any) -> str:
    """The task: who the agent is, and what it was given to do."""
    agent, task = getattr(context, "agent", None), getattr(context, "task", None)
    return task_of(str(getattr(agent, "goal", "") or ""), str(getattr(task, "description", "") or ""))


def _thread(context: Any) -> str | None:
    """The crew's run has no id of its own; a crew has one."""
    crew_id = getattr(getattr(context, "crew", None), "id", None)
    return str(crew_id) if crew_id else None


def _goes_through(llm: Any) -> bool:
    """Whether a model's requests go through the gateway."""
    clients = [c for c in (getattr(llm, name, None) for name in _CLIENTS) if c is not None]
    return bool(clients) and all(is_guarded(c) for c in clients)


def _dumped(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value
