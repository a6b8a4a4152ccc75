"""The Claude Agent SDK.

``options = guard.claude(ClaudeAgentOptions(...))`` adds hooks: prompts before they are
read, every tool call before it runs, every result before the model reads it.

With ``gateway=True`` the requests to the model go through the guard as well, so that
answers are judged on the way; without it, they are judged when they have been given. Either
way tool calls are refused before they run, and the agent is told and goes on.

Hooks of other people run beside ours, on what was there before: a hook that rewrites a
tool's input or output changes what has been judged. Put nothing else on PostToolUse.
"""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, HookMatcher

from ..decision import Tool
from ..errors import GuardError
from ..models import TOOL_CALLS
from .judge import Judge, Question, Ruling, arguments_of, text_of

__all__ = ["guard_options"]

VIA = "python/claude"

#: Tools whose output is known to keep its form when texts in it are replaced. The CLI
#: keeps the original of anything else, so a denied result of another tool ends the run.
_REPLACEABLE = re.compile(r"(Bash|Read|Grep|Glob|WebFetch|mcp__.*)")
#: Words of a tool's output that are part of its form: kinds, names of files.
_FORM = re.compile(r"[\w.:/@+-]{0,200}")


def guard_options(guard: Any, options: Any = None, *, gateway: bool = False) -> Any:
    """Options with the guard's hooks. The ones that were given stay as they are."""
    options = ClaudeAgentOptions() if options is None else options
    if not isinstance(options, ClaudeAgentOptions):
        raise GuardError(f"guard.claude() takes ClaudeAgentOptions, not {type(options).__name__}")
    ours = _Hooks(Judge(guard, VIA)).by_event(answers=not gateway)
    hooks = {event: list(matchers) for event, matchers in (options.hooks or {}).items()}
    for event, hook in ours.items():
        hooks.setdefault(event, []).insert(0, _matcher(hook))
    changed: dict[str, Any] = {"hooks": hooks}
    if gateway:
        target = guard._ready().target
        changed["env"] = {
            **options.env,
            "ANTHROPIC_BASE_URL": target.url + "/anthropic",
            "ANTHROPIC_CUSTOM_HEADERS": _headers(options.env.get("ANTHROPIC_CUSTOM_HEADERS", ""), target.key, guard),
        }
    return dataclasses.replace(options, **changed)


def _headers(others: str, key: str, guard: Any) -> str:
    # PreToolUse asks about every call, so none has to be withheld from the agent.
    ours = {"X-Guardbook-Key": key, "X-Guardbook-Session": guard.session_id(), TOOL_CALLS: "asked"}
    return "\n".join([*filter(None, others.split("\n")), *(f"{k}: {v}" for k, v in ours.items())])


def _matcher(hook: Any) -> Any:
    """A hook for every tool. Newer SDKs can be told that its failure is no permission."""
    settings = {"on_failure": "block"} if "on_failure" in {f.name for f in dataclasses.fields(HookMatcher)} else {}
    return HookMatcher(matcher=None, hooks=[hook], **settings)


class _Hooks:
    """The hooks of one guard. None of them raises: to the CLI, that is no objection."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        #: What each session was asked to do last.
        self._tasks: OrderedDict[str, str] = OrderedDict()
        #: Failed calls whose error the model may not read, until their batch is done.
        self._unreadable: OrderedDict[str, str] = OrderedDict()

    def by_event(self, answers: bool) -> dict[Any, Callable[..., Any]]:
        """The hooks by the event that they are for."""
        hooks: dict[Any, Callable[..., Any]] = {
            "PreToolUse": self.pre_tool_use,
            "PostToolUse": self.post_tool_use,
            "PostToolUseFailure": self.post_tool_use_failure,
            "PostToolBatch": self.post_tool_batch,
        }
        if answers:
            hooks |= {"UserPromptSubmit": self.user_prompt_submit, "Stop": self.stop}
        return hooks

    async def user_prompt_submit(self, given: Any, _: Any, __: Any) -> dict[str, Any]:
        """Judges a prompt before the model reads it."""
        prompt, thread = str(given.get("prompt") or ""), _thread(given)
        self._tasks[thread or ""] = prompt[: 64 << 10]
        while len(self._tasks) > 1000:
            self._tasks.popitem(last=False)
        ruling = await self._ask(Question("input", prompt, role="user", thread=thread))
        if ruling.denied or ruling.content is not None:
            reason = ruling.message or "The prompt holds data that may not be read here."
            return {"decision": "block", "reason": reason}
        return {}

    async def pre_tool_use(self, given: Any, tool_use_id: Any, _: Any) -> dict[str, Any]:
        """Judges a tool call before it runs."""
        arguments = arguments_of(given.get("tool_input"))
        tool = _tool(given, arguments, str(given.get("tool_use_id") or tool_use_id or ""))
        ruling = await self._ask(Question("tool_call", tool=tool, context=self._task(given), thread=_thread(given)))
        reason = ruling.message
        if not ruling.denied:
            if ruling.arguments is None:
                return {}
            # Replacing the input would mean to allow the call in the place of the user's
            # own permissions.
            reason = "The arguments hold data that may not be used there. Call the tool without it."
        return {
            "hookSpecificOutput": {
                "hookEventName": "PreToolUse",
                "permissionDecision": "deny",
                "permissionDecisionReason": reason,
            }
        }

    async def post_tool_use(self, given: Any, _: Any, __: Any) -> dict[str, Any]:
        """Judges a result before the model reads it."""
        output, name = given.get("tool_response"), str(given.get("tool_name") or "tool")
        texts = list(_texts(output))
        parts = [{"type": "text", "text": t} for t in texts]
        ruling = await self._ask(
            Question("tool_result", parts, tool=_tool(given), context=self._task(given), thread=_thread(given))
        )
        if not ruling.denied and ruling.content is None:
            return {}
        if ruling.denied:
            new = _refused(output, ruling.message)
        else:
            given_back = [p.get("text", "") for p in ruling.content]
            new = _replaced(output, iter(given_back)) if len(given_back) == len(texts) else text_of(ruling.content)
        answer: dict[str, Any] = {"hookSpecificOutput": {"hookEventName": "PostToolUse", "updatedToolOutput": new}}
        if not _REPLACEABLE.fullmatch(name):
            answer |= _end(ruling.message or f"The result of {name} holds data that may not be read here.")
        return answer

    async def post_tool_use_failure(self, given: Any, _: Any, __: Any) -> dict[str, Any]:
        """Judges what a failed tool says. It cannot be replaced, and the CLI heeds nothing that
        this hook answers: a denied one ends the run when the calls beside it are done."""
        said = Question(
            "tool_result",
            str(given.get("error") or ""),
            tool=_tool(given),
            context=self._task(given),
            thread=_thread(given),
        )
        ruling = await self._ask(said)
        if ruling.denied or ruling.content is not None:
            call_id = str(given.get("tool_use_id") or "")
            self._unreadable[call_id] = ruling.message or "The tool's error holds data that may not be read here."
            while len(self._unreadable) > 1000:
                self._unreadable.popitem(last=False)
        return {}

    async def post_tool_batch(self, given: Any, _: Any, __: Any) -> dict[str, Any]:
        """Ends the run before the model reads an error that it may not read."""
        try:
            ids = [str(call.get("tool_use_id") or "") for call in given.get("tool_calls") or ()]
        except Exception:  # then it cannot be told which calls these are
            ids = list(self._unreadable)
        found = [self._unreadable.pop(i) for i in ids if i in self._unreadable]
        return _end(found[0]) if found else {}

    async def stop(self, given: Any, _: Any, __: Any) -> dict[str, Any]:
        """Judges the answer, when it has been given."""
        said = Question(
            "output", str(given.get("last_assistant_message") or ""), context=self._task(given), thread=_thread(given)
        )
        ruling = await self._ask(said)
        return _end(ruling.message) if ruling.denied else {}

    async def _ask(self, question: Question) -> Ruling:
        try:
            return (await self._judge.aask(question))[0]
        except Exception as err:
            return Ruling(error=GuardError(f"Guardbook could not rule on this: {type(err).__name__}."))

    def _task(self, given: Any) -> str:
        return self._tasks.get(_thread(given) or "", "")


def _end(reason: str) -> dict[str, Any]:
    return {"continue_": False, "stopReason": reason}


def _thread(given: Any) -> str | None:
    return str(given["session_id"]) if given.get("session_id") else None


def _tool(given: Any, arguments: Mapping[str, Any] | None = None, call_id: str = "") -> Tool:
    """The tool by the name that the model calls it; that of an MCP server says which."""
    name = str(given.get("tool_name") or "tool")
    server = name.split("__")[1] if name.startswith("mcp__") and name.count("__") >= 2 else ""
    return Tool(name, arguments=arguments, server=server, call_id=call_id)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a tool's output, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for held in value.values():
            yield from _texts(held)
    elif isinstance(value, (list, tuple)):
        for held in value:
            yield from _texts(held)


def _replaced(value: Any, texts: Iterator[str]) -> Any:
    """The output with other texts in the same places."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, Mapping):
        return {key: _replaced(held, texts) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(held, texts) for held in value]
    return value


def _refused(output: Any, message: str) -> Any:
    """An output of the same form that says why it is not shown."""
    texts = list(_texts(output))
    spoken = [i for i, t in enumerate(texts) if not _FORM.fullmatch(t)]
    if not spoken:
        return message
    return _replaced(output, iter([_said(i, t, spoken, message) for i, t in enumerate(texts)]))


def _said(i: int, text: str, spoken: Sequence[int], message: str) -> str:
    if i not in spoken:
        return text
    return message if i == spoken[0] else ""
