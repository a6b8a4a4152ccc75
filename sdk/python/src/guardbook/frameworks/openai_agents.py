"""The OpenAI Agents SDK.

``agent = guard.wrap(agent)`` guards an agent, the agents that it hands over to or calls
as tools, and its MCP servers: every tool call before it runs, every result before a
model reads it, the run's input before it starts, and its final output.

An agent whose ``model`` is an object answers in one piece, judged, where it would have
streamed. An agent whose model is a name, or nothing, has only the SDK's guardrails, which
see an answer when it has been streamed already, and cannot redact. (So does a run that is
given another model, in its RunConfig.) To have texts judged on the way, guard the model's
client, ``guard.wrap(agent, client=True)``, or that of all agents::

    set_default_openai_client(guard.wrap(AsyncOpenAI(), tool_calls="asked"))

Tools that run at the provider, and tools that the SDK gives no hook for (a computer, an
editor), are refused unless the client is guarded: its requests are judged by the gateway.

Of a call that policy denies, the agent is told, and goes on. Where nobody would ask again
before the call runs, ``GuardBlocked`` ends the run instead: that is so when the model, an
object, is offered a tool without a hook, or one that somebody has added to a guarded agent;
and with a guarded default client, unless ``tool_calls="asked"`` says that every agent which
uses it is guarded.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib.util
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from agents import Agent, Handoff, handoff
from agents.guardrail import GuardrailFunctionOutput, InputGuardrail, OutputGuardrail
from agents.mcp.util import MCPUtil
from agents.models import _openai_shared
from agents.models.interface import Model
from agents.tool_context import ToolContext
from agents.tracing import get_current_trace

from ..decision import Tool
from ..errors import GuardError
from ..models import TOOL_CALLS, asks_about_calls, is_model_client
from .judge import Judge, Question, Ruling, arguments_of, is_guarded, json_text, parts_of, put_back, task_of, text_of
from .mcp import guard_server

__all__ = ["guard_agent"]

VIA = "python/openai-agents"
_MARK = "guardbook_agent"
_TELLS = "guardbook_tells"
_F = TypeVar("_F", bound=Callable[..., Any])
#: Before the SDK was rebuilt, a stream waited for ever when an input guardrail raised.
#: There a denied input is a tripwire, whose ``output_info`` is the guard's error.
_RAISES = importlib.util.find_spec("agents.run_internal") is not None


def guard_agent(guard: Any, agent: Any, *, client: bool = False) -> Any:
    """A guarded copy of an agent. Agents that are used as tools, and MCP servers, are
    guarded in place: the SDK holds them where no copy can be put. With ``client``, so
    are the clients of the agents' models."""
    if isinstance(agent, Agent):
        return _Walk(guard, client).copied(agent)
    raise GuardError(f"guard.wrap() takes an Agent of the OpenAI Agents SDK, not {type(agent).__name__}")


class _Walk:
    """One walk through agents that know each other, in circles even."""

    def __init__(self, guard: Any, client: bool) -> None:
        self._guard = guard
        self._client = client
        self._judge = Judge(guard, VIA)
        #: By the id of the original, which is kept so that the id stays its own.
        self._copies: dict[int, tuple[Any, Any]] = {}

    def copied(self, agent: Any) -> Any:
        """The guarded copy of an agent."""
        if _MARK in agent.__dict__:
            return agent
        if id(agent) not in self._copies:
            made = agent.clone()
            self._copies[id(agent)] = (agent, made)
            self._guard_in_place(made)
        return self._copies[id(agent)][1]

    def _guard_in_place(self, agent: Any) -> None:
        agent.__dict__[_MARK] = True
        client = getattr(agent.model, "_client", None)
        if self._client and client is not None and is_model_client(client):
            agent.model = copy.copy(agent.model)
            agent.model._client = self._guard.wrap(client)
        through = _goes_through(agent.model)
        if isinstance(agent.model, Model):
            agent.model = _telling_model(agent.model) if through else _guarded_model(agent.model, self._judge)
        agent.tools = [self._tool(tool, agent, through) for tool in agent.tools]
        agent.handoffs = [self._handoff(h, agent) for h in agent.handoffs]
        for server in agent.mcp_servers:
            guard_server(self._judge, server)
        # First, before everybody else's: nothing runs beside it.
        agent.input_guardrails = [
            InputGuardrail(guardrail_function=self._input(agent), name="guardbook", run_in_parallel=False),
            *agent.input_guardrails,
        ]
        agent.output_guardrails = [
            *agent.output_guardrails,
            OutputGuardrail(guardrail_function=self._output(agent), name="guardbook"),
        ]

    # Tools.

    def _tool(self, tool: Any, agent: Any, through: bool) -> Any:
        """A guarded copy of a tool."""
        for inner in _agents_behind(tool):
            if _MARK not in inner.__dict__:
                self._guard_in_place(inner)
        if callable(getattr(tool, "on_invoke_tool", None)):
            guarded = copy.copy(tool)
            guarded.on_invoke_tool = self._invoked(tool, agent)
            return guarded
        if callable(getattr(tool, "executor", None)):
            guarded = copy.copy(tool)
            guarded.executor = self._executed(tool, agent)
            return guarded
        if not through:
            raise GuardError(
                f"the tool {tool.name!r} runs where this SDK has no hook for it, so it can only be judged in the "
                "requests to the model: first guard the client, set_default_openai_client(guard.wrap(AsyncOpenAI()))"
            )
        if not isinstance(agent.model, Model) and asks_about_calls(_openai_shared.get_default_openai_client()):
            raise GuardError(
                f"the tool {tool.name!r} runs where this SDK has no hook for it, so nobody asks about its calls: guard "
                'the default client without tool_calls="asked", or give this agent a model of its own'
            )
        return tool

    def _invoked(self, tool: Any, agent: Any) -> Callable[[Any, str], Awaitable[Any]]:
        invoke = tool.on_invoke_tool

        @functools.wraps(invoke)
        async def guarded(context: ToolContext[Any], input: str) -> Any:
            return await self._run(
                agent,
                tool.name,
                arguments_of(input),
                str(getattr(context, "tool_call_id", "") or ""),
                context,
                lambda new: invoke(context, input if new is None else json_text(new)),
            )

        return _asking(guarded)

    def _executed(self, tool: Any, agent: Any) -> Callable[[Any], Awaitable[Any]]:
        execute = tool.executor

        async def guarded(request: Any) -> Any:
            data = request.data
            action: Any = getattr(data, "action", None) or data
            said = action.model_dump(mode="json", exclude_none=True) if hasattr(action, "model_dump") else vars(action)
            said = {k: v for k, v in said.items() if v is not None and k != "type"}
            call_id = str(getattr(data, "call_id", "") or "")

            def run(new: Mapping[str, Any] | None) -> Any:
                if new is not None:
                    raise GuardError("the command holds data that may not be used in one")
                return execute(request)

            return await self._run(agent, tool.name, said, call_id, request.ctx_wrapper, run)

        return _asking(guarded)

    async def _run(
        self, agent: Any, name: str, arguments: dict[str, Any], call_id: str, context: Any, run: Callable[[Any], Any]
    ) -> Any:
        """Runs a tool if it may run; what it gives back, or why not, is for the model."""
        thread, task = _thread(), _task_of(context, agent)
        called = Question(
            "tool_call", tool=Tool(name, arguments=arguments, call_id=call_id), context=task, thread=thread
        )
        ruling = (await self._judge.aask(called))[0]
        if ruling.denied:
            return ruling.message
        try:
            with self._judge.conversation(thread):
                result = run(ruling.arguments)
                if inspect.isawaitable(result):
                    result = await result
        except GuardError as err:
            return str(err)
        parts = _output_parts(result)
        ruling = (await self._judge.aask(Question("tool_result", parts, tool=Tool(name), context=task, thread=thread)))[
            0
        ]
        if ruling.denied:
            return ruling.message
        if ruling.content is None:
            return result
        return put_back(result, ruling.content) if isinstance(result, str) else text_of(ruling.content)

    def _handoff(self, target: Any, agent: Any) -> Any:
        """A guarded handoff, to a guarded agent. It is judged as the tool that it is to
        the model; the SDK cannot refuse one and go on, so a denied one raises."""
        made = target if isinstance(target, Handoff) else handoff(self.copied(target))
        guarded = copy.copy(made)
        invoke = made.on_invoke_handoff

        async def invoked(context: Any, input: str) -> Any:
            task = _task_of(context, agent)
            tool = Tool(made.tool_name, arguments=arguments_of(input))
            ruling = (await self._judge.aask(Question("tool_call", tool=tool, context=task, thread=_thread())))[
                0
            ].obey()
            said = input if ruling.arguments is None else json_text(dict(ruling.arguments))
            return self.copied(await invoke(context, said))

        guarded.on_invoke_handoff = _asking(invoked)
        return guarded

    # Texts.

    def _input(self, agent: Any) -> Callable[..., Awaitable[GuardrailFunctionOutput]]:
        async def guardbook(context: Any, _: Any, given: Any) -> GuardrailFunctionOutput:
            items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
            task = task_of(_instructions(agent), _request(items))
            _remember(context, task)
            asked = [q for q in (_question(item, task) for item in items) if q is not None]
            if _instructions(agent):
                asked = [Question("input", _instructions(agent), role="system", thread=_thread()), *asked]
            rulings = await self._judge.aask_new(*asked, one=True)
            try:
                self._settle(rulings, agent)
            except GuardError as err:
                if _RAISES:
                    raise
                return GuardrailFunctionOutput(output_info=err, tripwire_triggered=True)
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

        return guardbook

    def _output(self, agent: Any) -> Callable[..., Awaitable[GuardrailFunctionOutput]]:
        async def guardbook(context: Any, _: Any, output: Any) -> GuardrailFunctionOutput:
            text = output if isinstance(output, str) else json_text(_dumped(output))
            asked = Question("output", text, context=_task_of(context, agent), thread=_thread())
            self._settle(await self._judge.aask_new(asked), agent)
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

        return guardbook

    def _settle(self, rulings: Sequence[Ruling], agent: Any) -> None:
        """A guardrail can stop a run, and cannot change a text. What has to be redacted
        is, by a guarded model or the gateway; else the run stops."""
        for ruling in rulings:
            if ruling.obey().content is not None and not (_goes_through(agent.model) or _is_judged(agent.model)):
                raise GuardError(
                    "this text holds data that must be redacted, which the SDK's guardrails cannot do: guard the "
                    "model's client, with guard.wrap(agent, client=True)"
                )


# Models.


def _guarded_model(model: Any, judge: Judge) -> Any:
    """A copy of a model that is judged in one piece. It stays of the model's class."""
    made = copy.copy(model)
    cls: Any = type(model)
    made.__class__ = _judged_class(cls)
    made.__dict__["guardbook_judge"] = judge
    return made


def _is_judged(model: Any) -> bool:
    return "guardbook_judge" in getattr(model, "__dict__", {})


@functools.lru_cache(maxsize=64)
def _judged_class(cls: Any) -> Any:
    async def get_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        judge: Judge = self.__dict__["guardbook_judge"]
        args, kwargs, task = await _sent(judge, args, kwargs)
        response = await cls.get_response(self, *args, **kwargs)
        new = await _heard(judge, response.output, task)
        return response if new is None else dataclasses.replace(response, output=new)

    async def stream_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        judge: Judge = self.__dict__["guardbook_judge"]
        args, kwargs, task = await _sent(judge, args, kwargs)
        held = [event async for event in cls.stream_response(self, *args, **kwargs)]
        # Texts that no event of the end repeats are those of a stream that broke off.
        if not any(hasattr(event, "response") and event.response.output for event in held[-1:]):
            held = [event for event in held if not str(getattr(event, "type", "")).endswith((".delta", ".done"))]
        for event in held[-1:]:
            new = await _heard(judge, getattr(getattr(event, "response", None), "output", None) or [], task)
            if new is not None:  # what was said on the way is not said again
                response = event.response.model_copy(update={"output": new})
                held = [event.model_copy(update={"response": response})]
        for event in held:
            yield event

    return _like(cls, get_response, stream_response)


def _like(cls: Any, *methods: Any) -> Any:
    """A class that passes for another, with methods of its own."""
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls)(cls.__name__, (cls,), {**names, **{method.__name__: method for method in methods}})


def _telling_model(model: Any) -> Any:
    """A copy of a model with a guarded client, whose requests say whether every call that
    it can make will be asked about."""
    if _TELLS in model.__dict__:
        return model
    made = copy.copy(model)
    cls: Any = type(model)
    made.__class__ = _telling_class(cls)
    made.__dict__[_TELLS] = True
    return made


@functools.lru_cache(maxsize=64)
def _telling_class(cls: Any) -> Any:
    def get_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        return cls.get_response(self, *_told(args, kwargs), **kwargs)

    def stream_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        return cls.stream_response(self, *_told(args, kwargs), **kwargs)

    return _like(cls, get_response, stream_response)


def _told(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of a model's call; what they have by name is changed in place."""
    names = ("system_instructions", "input", "model_settings", "tools", "output_schema", "handoffs")
    given = dict(zip(names, args, strict=False)) | kwargs
    runs = [*(given.get("tools") or ()), *(given.get("handoffs") or ())]
    calls = "asked" if all(_asks(one) for one in runs) else "withheld"
    settings = given["model_settings"]
    settings = dataclasses.replace(settings, extra_headers={**(settings.extra_headers or {}), TOOL_CALLS: calls})
    if "model_settings" in kwargs:
        kwargs["model_settings"] = settings
        return args
    return (*args[:2], settings, *args[3:])


def _asking(run: _F) -> _F:
    """What runs a tool, marked as that it asks before."""
    run.guardbook_asks = True  # type: ignore[attr-defined]
    return run


def _asks(tool: Any) -> bool:
    """Whether a call of this tool, or handoff, is asked about before it runs."""
    for name in ("on_invoke_tool", "executor", "on_invoke_handoff"):
        run = getattr(tool, name, None)
        if callable(run):
            break
    else:
        return False
    if getattr(run, "guardbook_asks", False):
        return True
    # A tool of an MCP server, which is guarded itself.
    run = getattr(run, "_invoke_tool_impl", run)
    if not isinstance(run, functools.partial) or run.func != MCPUtil.invoke_mcp_tool or not run.args:
        return False
    return "guardbook_server" in getattr(run.args[0], "__dict__", {})


async def _sent(
    judge: Judge, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], str]:
    """The arguments of a model's call, judged: instructions and input are the first two."""
    given = dict(zip(("system_instructions", "input"), args, strict=False)) | kwargs
    system, items = given.get("system_instructions"), given.get("input")
    listed = [{"role": "user", "content": items}] if isinstance(items, str) else list(items or ())
    task = task_of(system or "", _request(listed))
    asked = [(i, q) for i, item in enumerate(listed) if (q := _question(item, task)) is not None]
    questions = [q for _, q in asked]
    if system:
        questions.insert(0, Question("input", system, role="system", thread=_thread()))
    rulings = await judge.aask_new(*questions, one=True)
    if system:
        first = rulings.pop(0).obey()
        system = system if first.content is None else text_of(first.content)
    for (i, question), ruling in zip(asked, rulings, strict=True):
        if question.kind == "tool_result" and ruling.denied:
            listed[i] = {**_dumped(listed[i]), "output": ruling.message}
        elif ruling.obey().content is not None:
            listed[i] = _put(_dumped(listed[i]), ruling.content)
    sent = listed[0]["content"] if isinstance(items, str) else listed
    if args:
        args = (system, sent, *args[2:])
    else:
        kwargs = {**kwargs, "system_instructions": system, "input": sent}
    return args, kwargs, task


def _put(item: Any, content: Any) -> Any:
    """An item of a model's input with its redacted text."""
    if not isinstance(item, Mapping):
        return text_of(content)
    for member in ("content", "output"):
        if member in item:
            return {**item, member: put_back(item[member], content)}
    raise GuardError("the conversation holds data that may not be read here")


async def _heard(judge: Judge, output: Sequence[Any], task: str) -> list[Any] | None:
    """A model's answer as it may be read; None: as it is. Calls are judged when they run."""
    told = [(i, part) for i, item in enumerate(output) for part in getattr(item, "content", None) or ()]
    told = [(i, p) for i, p in told if isinstance(getattr(p, "text", None) or getattr(p, "refusal", None), str)]
    asked = [Question("output", getattr(p, "text", None) or p.refusal, context=task, thread=_thread()) for _, p in told]
    rulings = [r.obey() for r in await judge.aask(*asked)]
    for question, ruling in zip(asked, rulings, strict=True):
        judge.learn(question, ruling)
    new = {
        id(p): p.model_copy(update={"text" if hasattr(p, "text") else "refusal": text_of(r.content), **_bare(p)})
        for (_, p), r in zip(told, rulings, strict=True)
        if r.content is not None
    }
    if not new:
        return None
    changed = {i for i, p in told if id(p) in new}
    return [
        item.model_copy(update={"content": [new.get(id(p), p) for p in item.content]}) if i in changed else item
        for i, item in enumerate(output)
    ]


def _bare(part: Any) -> dict[str, Any]:
    """What stands beside a text and repeats it."""
    return {name: [] for name in ("logprobs", "annotations") if getattr(part, name, None)}


def _goes_through(model: Any) -> bool:
    """Whether an agent's requests to its model go through the gateway."""
    if model is None or isinstance(model, str):
        return (
            is_guarded(_openai_shared.get_default_openai_client())
            and getattr(_openai_shared, "get_default_openai_responses_transport", lambda: "http")() != "websocket"
        )
    return is_guarded(getattr(model, "_client", None))


def _thread() -> str | None:
    """The run's conversation: RunConfig(group_id=...)."""
    group = getattr(get_current_trace(), "group_id", None)
    return str(group) if group else None


def _remember(context: Any, task: str) -> None:
    # The one object that a run shares with all of its tools.
    context.usage.__dict__["guardbook_task"] = task


def _task_of(context: Any, agent: Any) -> str:
    known = getattr(getattr(context, "usage", None), "__dict__", {}).get("guardbook_task")
    return str(known) if known else _instructions(agent)


def _instructions(agent: Any) -> str:
    return agent.instructions if isinstance(agent.instructions, str) else ""


def _request(items: Sequence[Any]) -> str:
    for item in reversed(items):
        if isinstance(item, Mapping) and item.get("role") == "user":
            return text_of(item.get("content"))
    return ""


def _question(item: Any, task: str) -> Question | None:
    """One item of a run's input. Calls in it were judged when they ran."""
    item = _dumped(item)
    if not isinstance(item, Mapping):
        return Question("input", json_text(item), context=task, thread=_thread())
    kind, role = str(item.get("type") or "message"), str(item.get("role") or "user")
    if kind.endswith("_output"):
        return Question("tool_result", parts_of(item.get("output")), tool=Tool(kind), context=task, thread=_thread())
    if kind.endswith("_call"):
        return None
    if kind != "message":
        return Question("input", json_text(item), role="assistant", context=task, thread=_thread())
    role = {"system": "system", "developer": "system", "assistant": "assistant"}.get(role, "user")
    return Question("input", parts_of(item.get("content")), role=role, context=task, thread=_thread())


def _output_parts(result: Any) -> list[dict[str, Any]]:
    """What a model will read of a tool's output."""
    if isinstance(result, (list, tuple)):
        return [part for one in result for part in parts_of([_dumped(one)])]
    dumped = _dumped(result)
    return parts_of([dumped] if isinstance(dumped, Mapping) else dumped)


def _dumped(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    return vars(value) if hasattr(value, "__dataclass_fields__") and not isinstance(value, type) else value


def _agents_behind(tool: Any) -> list[Any]:
    """The agents that a tool runs: those of Agent.as_tool()."""
    known = getattr(tool, "_agent_instance", None)
    if isinstance(known, Agent):
        return [known]
    found: list[Any] = []
    seen: set[int] = set()
    todo = [getattr(tool, "on_invoke_tool", None)]
    while todo and len(seen) < 200:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Agent):
            found.append(value)
        for cell in getattr(value, "__closure__", None) or ():
            try:
                held = cell.cell_contents
            except ValueError:  # not set yet
                continue
            if isinstance(held, Agent) or inspect.isfunction(held) or inspect.ismethod(held):
                todo.append(held)
    return found
