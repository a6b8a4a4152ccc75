"""LangChain 1.x and LangGraph.

``agent = create_agent(model, tools, middleware=[..., guard.langchain()])``

Put the guard last in the list: the last middleware is the innermost, so that it sees
what is really sent to the model and to the tools, after everybody else's changes.

A model whose HTTP client is guarded (``guard.wrap(ChatOpenAI(...))``) streams: its
answers are judged on the way. Any other model answers in one piece, because LangChain hands
tokens to the application before any middleware sees them.

The middleware asks about every call before it runs; the model reads why one was refused,
and the agent goes on. Calls that do not run in the agent's tool node (the form of a
structured answer, a provider's own tools) are judged on the way, and one that is denied
ends the run with ``GuardBlocked``. So does a denied call of a guarded model where there is
no middleware, unless ``guard.wrap(ChatOpenAI(...), tool_calls="asked")`` says that there is
somebody else who asks: ``ToolNode(..., wrap_tool_call=guard.langchain().wrap_tool_call)``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tools import BaseTool
from langgraph.types import Command

from .. import scope
from ..decision import Tool
from ..errors import GuardBlocked, GuardError
from ..models import TOOL_CALLS, is_model_client
from .judge import Judge, Question, Ruling, arguments_of, is_guarded, json_text, parts_of, put_back, task_of, text_of

__all__ = ["GuardMiddleware", "guard_model"]

VIA = "python/langchain"


class GuardMiddleware(AgentMiddleware):
    """Judges what goes into the model, what comes out, and every tool call and result.

    ``on_block``: ``"raise"`` (GuardBlocked leaves the agent) or ``"answer"`` (the run
    ends with the guard's message as the agent's answer).
    """

    def __init__(self, guard: Any, *, on_block: str = "raise") -> None:
        if on_block not in ("raise", "answer"):
            raise ValueError(f'on_block must be "raise" or "answer", not {on_block!r}')
        super().__init__()
        self._judge = Judge(guard, VIA)
        self._on_block = on_block
        #: Tools that the model is not told of, with the reason. They do not run either.
        self._refused: dict[str, Ruling] = {}

    @property
    def name(self) -> str:
        """The middleware's name in graphs and traces."""
        return "Guardbook"

    # The model.

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Judges the request and the answer."""
        thread, user = _identity(None, request.runtime)
        try:
            with self._judge.conversation(thread):
                if is_guarded_client(request.model):
                    return handler(_telling(request))
                rulings = self._judge.ask_new(*_definitions(request.tools, thread, user)) if request.tools else []
                return handler(self._guarded(request, self._offered(request.tools, rulings), thread, user))
        except GuardBlocked as blocked:
            return self._answer(blocked)

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Judges the request and the answer."""
        thread, user = _identity(None, request.runtime)
        try:
            with self._judge.conversation(thread):
                if is_guarded_client(request.model):
                    return await handler(_telling(request))
                rulings = (
                    await self._judge.aask_new(*_definitions(request.tools, thread, user)) if request.tools else []
                )
                return await handler(self._guarded(request, self._offered(request.tools, rulings), thread, user))
        except GuardBlocked as blocked:
            return self._answer(blocked)

    def _offered(self, tools: Sequence[Any], rulings: Sequence[Ruling]) -> list[Any]:
        for tool, ruling in zip(tools, rulings, strict=True):
            if ruling.denied:
                self._refused[_tool_name(tool)] = ruling
            else:
                self._refused.pop(_tool_name(tool), None)
        return _kept(tools, rulings)

    def _guarded(self, request: Any, tools: list[Any], thread: str | None, user: str | None) -> Any:
        # Tools with a name run in the ToolNode, where wrap_tool_call judges them; the
        # rest (the form of a structured answer, a provider's own tools) does not.
        local = frozenset(t.name for t in request.tools if hasattr(t, "name"))
        hooks = _Hooks(
            self._judge, thread=thread, user=user, elsewhere=local, structured=request.response_format is not None
        )
        return request.override(model=_subclassed(request.model, hooks), tools=tools)

    def _answer(self, blocked: GuardBlocked) -> AIMessage:
        if self._on_block == "raise":
            raise blocked
        return AIMessage(content=blocked.message, response_metadata={"guardbook": {"entry": blocked.entry}})

    # The tools. Both fit LangGraph's ToolNode(wrap_tool_call=..., awrap_tool_call=...).

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Judges a tool call before it runs, and its result before the model reads it."""
        call = _Call.of(request)
        ruling = self._refused.get(call.name) or self._judge.ask(call.question())[0]
        if ruling.denied:
            return call.refusal(ruling)
        with self._judge.conversation(call.thread):
            result = handler(call.with_arguments(ruling))
        asked = [q for item in _items(result) for q in call.about(item)]
        return call.obeyed(result, asked, self._judge.ask(*asked), self._judge)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Judges a tool call before it runs, and its result before the model reads it."""
        call = _Call.of(request)
        ruling = self._refused.get(call.name) or (await self._judge.aask(call.question()))[0]
        if ruling.denied:
            return call.refusal(ruling)
        with self._judge.conversation(call.thread):
            result = await handler(call.with_arguments(ruling))
        asked = [q for item in _items(result) for q in call.about(item)]
        return call.obeyed(result, asked, await self._judge.aask(*asked), self._judge)


def _telling(request: Any) -> Any:
    """The request to a guarded model, which tells the server whether every call that the
    model can make will be asked about."""
    ours = request.response_format is None and all(isinstance(t, BaseTool) for t in request.tools)
    headers = request.model_settings.get("extra_headers") or {}
    headers = {**headers, TOOL_CALLS: "asked" if ours else "withheld"}
    return request.override(model_settings={**request.model_settings, "extra_headers": headers})


def _identity(config: Mapping[str, Any] | None, runtime: Any = None) -> tuple[str | None, str | None]:
    """Thread and user of the run, as its caller named them."""
    if config is None:
        config = var_child_runnable_config.get() or {}
    named = config.get("configurable") or {}
    thread, user = named.get("thread_id"), named.get("user_id") or named.get("langgraph_auth_user_id")
    if not thread:  # on Python 3.10, the configuration does not reach asyncio's tasks by itself
        thread = getattr(getattr(runtime, "execution_info", None), "thread_id", None)
    return (str(thread) if thread else None), (scope.named(user) if user else None)


# Tool definitions.


def _definitions(tools: Sequence[Any], thread: str | None, user: str | None) -> list[Question]:
    return [
        Question("tool_definition", _definition(t), tool=Tool(_tool_name(t)), thread=thread, user=user) for t in tools
    ]


def _tool_name(tool: Any) -> str:
    if isinstance(tool, Mapping):
        function = tool.get("function")
        named = function if isinstance(function, Mapping) else tool
        return str(named.get("name") or tool.get("type") or "tool")
    return str(getattr(tool, "name", None) or type(tool).__name__)


def _definition(tool: Any) -> str:
    if isinstance(tool, Mapping):
        return json_text(tool)
    said = {"name": _tool_name(tool), "description": getattr(tool, "description", "")}
    with contextlib.suppress(Exception):  # without a readable schema, it still has a name and a description
        said["parameters"] = tool.tool_call_schema if isinstance(tool.tool_call_schema, dict) else tool.args
    return json_text(said)


def _kept(tools: Sequence[Any], rulings: Sequence[Ruling]) -> list[Any]:
    """The tools without those whose definition is denied: the model never hears of them."""
    return [t for t, r in zip(tools, rulings, strict=True) if not r.denied]


# A tool call and what comes of it.


@dataclass(frozen=True)
class _Call:
    request: Any
    name: str
    call_id: str
    context: str
    thread: str | None
    user: str | None

    @classmethod
    def of(cls, request: Any) -> _Call:
        call = request.tool_call
        thread, user = _identity(getattr(getattr(request, "runtime", None), "config", None))
        state = request.state
        messages = (
            state.get("messages")
            if isinstance(state, Mapping)
            else state
            if isinstance(state, list)
            else getattr(state, "messages", None)
        )
        return cls(request, str(call["name"]), str(call.get("id") or ""), _task(messages or []), thread, user)

    def tool(self) -> Tool:
        return Tool(self.name, arguments=arguments_of(self.request.tool_call.get("args")), call_id=self.call_id)

    def question(self) -> Question:
        return Question("tool_call", tool=self.tool(), context=self.context, thread=self.thread, user=self.user)

    def with_arguments(self, ruling: Ruling) -> Any:
        if ruling.arguments is None:
            return self.request
        return self.request.override(tool_call={**self.request.tool_call, "args": dict(ruling.arguments)})

    def refusal(self, ruling: Ruling) -> ToolMessage:
        return ToolMessage(content=ruling.message, tool_call_id=self.call_id, name=self.name, status="error")

    def about(self, item: Any) -> list[Question]:
        """What has to be judged of one thing that the tool gave back: first what the
        model reads, then the artifact or the rest of the state that it changes."""
        if isinstance(item, Command):
            texts = [parts_of(m.content) for m in _messages(item)] + [parts_of(v) for v in _rest(item).values()]
        elif isinstance(item, BaseMessage):
            artifact = getattr(item, "artifact", None)
            texts = [parts_of(item.content), parts_of(artifact) if not isinstance(artifact, (bytes, bytearray)) else []]
        else:
            texts = [parts_of(item)]
        return [result_question(self.name, t, self.context, self.thread, self.user) for t in texts]

    def obeyed(self, result: Any, asked: Sequence[Question], rulings: Sequence[Ruling], judge: Judge) -> Any:
        """The result as the rulings let it through."""
        for question, ruling in zip(asked, rulings, strict=True):
            judge.learn(question, ruling)
        left = list(rulings)
        out = []
        for item in _items(result):
            count = len(self.about(item))
            mine, left = left[:count], left[count:]
            denied = next((r for r in mine if r.denied), None)
            out.append(self.refusal(denied) if denied else self._changed(item, mine))
        return out if isinstance(result, list) else out[0]

    def _changed(self, item: Any, rulings: Sequence[Ruling]) -> Any:
        if not any(r.content is not None for r in rulings):
            return item
        if isinstance(item, Command):
            return self._changed_command(item, rulings)
        if not isinstance(item, BaseMessage):
            return put_back(item, rulings[0].content)
        update: dict[str, Any] = {}
        if rulings[0].content is not None:
            update["content"] = put_back(item.content, rulings[0].content)
        if rulings[1].content is not None:
            # An artifact is an object of the application; a text can be redacted, an
            # object cannot be put together again from its text.
            update["artifact"] = text_of(rulings[1].content) if isinstance(item.artifact, str) else None
        return item.model_copy(update=update)

    def _changed_command(self, item: Command, rulings: Sequence[Ruling]) -> Any:
        messages, rest = _messages(item), _rest(item)
        new = {
            id(m): m.model_copy(update={"content": put_back(m.content, r.content)})
            for m, r in zip(messages, rulings, strict=False)
            if r.content is not None
        }
        update: dict[str, Any] = dict(item.update) if isinstance(item.update, Mapping) else dict(item.update or ())
        for key, value in update.items():
            if isinstance(value, (list, tuple)):
                update[key] = [new.get(id(m), m) for m in value]
            elif id(value) in new:
                update[key] = new[id(value)]
        for (key, value), ruling in zip(rest.items(), rulings[len(messages) :], strict=True):
            if ruling.content is not None:
                update[key] = put_back(value, ruling.content)
        return replace(item, update=update)


def _items(result: Any) -> list[Any]:
    return list(result) if isinstance(result, list) else [result]


def _pairs(command: Command) -> dict[str, Any]:
    update = command.update
    if isinstance(update, Mapping):
        return dict(update)
    if isinstance(update, (list, tuple)) and all(isinstance(p, tuple) and len(p) == 2 for p in update):
        return dict(update)
    return {} if update is None else {"update": update}


def _messages(command: Command) -> list[BaseMessage]:
    found: list[BaseMessage] = []
    for value in _pairs(command).values():
        for m in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(m, BaseMessage):
                found.append(m)
    return found


def _rest(command: Command) -> dict[str, Any]:
    """What a command changes in the state that is no message."""
    rest = {}
    for key, value in _pairs(command).items():
        values = value if isinstance(value, (list, tuple)) else [value]
        if value is not None and not any(isinstance(m, BaseMessage) for m in values):
            rest[key] = value
    return rest


# Models.

#: Where ChatOpenAI and ChatAnthropic keep their clients.
_CLIENTS = ("root_client", "root_async_client", "_client", "_async_client")


def guard_model(guard: Any, model: Any, *, tool_calls: str | None = None) -> Any:
    """A copy of a chat model that is guarded wherever it is used.

    ChatOpenAI, AzureChatOpenAI and ChatAnthropic get guarded HTTP clients and stream;
    every other model is judged in one piece, and a denied call raises GuardBlocked.

    ``tool_calls="asked"``: whoever runs the tools asks about each call, so those in answers
    are recorded and not withheld.
    """
    clients: dict[str, Any] = {}
    for name in _CLIENTS:
        client = getattr(model, name, None)
        if client is not None and is_model_client(client):
            clients[name] = guard.wrap(client, tool_calls=tool_calls)
    if not clients:
        if tool_calls is not None:
            raise GuardError(
                f"{type(model).__name__} has no client of OpenAI or Anthropic that could be guarded: leave tool_calls "
                "out, or give the model as it is to an agent with middleware=[guard.langchain()]"
            )
        return _subclassed(model, _Hooks(Judge(guard, VIA)))
    copy = model.model_copy()
    for name, client in clients.items():
        copy.__dict__[name] = client
    if "root_client" in clients:
        copy.__dict__["client"] = clients["root_client"].chat.completions
    if "root_async_client" in clients:
        copy.__dict__["async_client"] = clients["root_async_client"].chat.completions
    return copy


def is_guarded_client(model: Any) -> bool:
    """Whether a model's HTTP clients are guarded."""
    held = getattr(model, "__dict__", {})
    clients = [held[name] for name in _CLIENTS if held.get(name) is not None]
    return bool(clients) and all(is_guarded(client) for client in clients)


@dataclass(frozen=True)
class _Hooks:
    """What is judged before and after one call of a model."""

    judge: Judge
    thread: str | None = None
    user: str | None = None
    #: Names of tools that are judged elsewhere, before they run.
    elsewhere: frozenset[str] = frozenset()
    #: Whether calls of other tools are the model's answer in a form.
    structured: bool = False

    def questions(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> list[Question]:
        task, names = _task(messages), _call_names(messages)
        thread, user = (self.thread, self.user) if self.thread or self.user else _identity(None)
        asked = []
        for m in messages:
            parts = _parts(m)
            if isinstance(m, ToolMessage):
                name = m.name or names.get(m.tool_call_id, "") or "tool"
                asked.append(result_question(name, parts, task, thread, user))
            else:
                role = {
                    "system": "system",
                    "developer": "system",
                    "ai": "assistant",
                    "AIMessageChunk": "assistant",
                }.get(m.type, "user")
                asked.append(
                    Question(
                        "input", parts, role=role, context="" if role == "system" else task, thread=thread, user=user
                    )
                )
        if not self.elsewhere and isinstance(kwargs.get("tools"), (list, tuple)):
            asked = _definitions(kwargs["tools"], thread, user) + asked
        return asked

    def before(
        self, messages: Sequence[BaseMessage], kwargs: dict[str, Any], rulings: Sequence[Ruling]
    ) -> list[BaseMessage]:
        """The messages as they may be sent; a denied result becomes an error result,
        anything else that is denied raises."""
        extra = len(rulings) - len(messages)
        if extra:
            kwargs["tools"] = _kept(kwargs["tools"], rulings[:extra])
        out = []
        for m, ruling in zip(messages, rulings[extra:], strict=True):
            if ruling.denied and isinstance(m, ToolMessage):
                m = m.model_copy(update={"content": ruling.message, "status": "error", "artifact": None})
            elif ruling.obey().content is not None:
                m = m.model_copy(update={"content": put_back(m.content, ruling.content, _parts(m))})
            out.append(m)
        return out

    def answers(self, result: ChatResult, messages: Sequence[BaseMessage]) -> list[Question]:
        task = _task(messages)
        thread, user = (self.thread, self.user) if self.thread or self.user else _identity(None)
        asked = []
        for message in (g.message for g in result.generations):
            for text in _said(message):
                asked.append(Question("output", text, context=task, thread=thread, user=user))
            for call in self._calls(message):
                if self.structured:
                    asked.append(Question("output", json_text(call["args"]), context=task, thread=thread, user=user))
                else:
                    tool = Tool(
                        str(call["name"]), arguments=arguments_of(call["args"]), call_id=str(call.get("id") or "")
                    )
                    asked.append(Question("tool_call", tool=tool, context=task, thread=thread, user=user))
        return asked

    def after(self, result: ChatResult, rulings: Sequence[Ruling]) -> ChatResult:
        """The answer as it may be read; what is denied raises."""
        left = [r.obey() for r in rulings]
        generations = []
        for generation in result.generations:
            message = generation.message
            texts, calls = _said(message), self._calls(message)
            mine, left = left[: len(texts)], left[len(texts) :]
            theirs, left = left[: len(calls)], left[len(calls) :]
            if any(r.content is not None for r in mine) or any(
                r.content is not None or r.arguments is not None for r in theirs
            ):
                generation = self._redacted(
                    generation, mine, dict(zip((c.get("id") for c in calls), theirs, strict=True))
                )
            generations.append(generation)
        return result.model_copy(update={"generations": generations})

    def _calls(self, message: Any) -> list[Mapping[str, Any]]:
        return [c for c in getattr(message, "tool_calls", None) or () if c["name"] not in self.elsewhere]

    def _redacted(self, generation: Any, texts: Sequence[Ruling], calls: Mapping[Any, Ruling]) -> ChatGeneration:
        message = generation.message
        # The provider's own fields repeat what was said, token by token even: only
        # what was judged in its new form goes on.
        update: dict[str, Any] = {
            "additional_kwargs": {},
            "response_metadata": {k: v for k, v in message.response_metadata.items() if k != "logprobs"},
        }
        contents = iter(texts)
        content = message.content
        if content:
            ruling = next(contents)
            if ruling.content is not None:
                content = put_back(content, ruling.content, _parts(message))
        new_calls = []
        for call in message.tool_calls:
            ruling = calls.get(call.get("id"), Ruling())
            if ruling.arguments is not None:
                call = {**call, "args": dict(ruling.arguments)}
            elif ruling.content is not None:
                call = {**call, "args": arguments_of(text_of(ruling.content))}
            new_calls.append(call)
        inputs = {c.get("id"): c["args"] for c in new_calls}
        if isinstance(content, list):  # where calls stand a second time
            content = [
                {**b, "input": inputs[b["id"]]}
                if isinstance(b, dict) and b.get("type") == "tool_use" and b.get("id") in inputs
                else b
                for b in content
            ]
        update["content"], update["tool_calls"] = content, new_calls
        info = {k: v for k, v in (generation.generation_info or {}).items() if k != "logprobs"}
        return ChatGeneration(message=message.model_copy(update=update), generation_info=info)


def result_question(
    name: str, parts: list[dict[str, Any]], context: str, thread: str | None, user: str | None
) -> Question:
    """The question about what a tool gave back, put the same way wherever it is asked."""
    return Question("tool_result", parts, tool=Tool(name), context=context, thread=thread, user=user)


def _said(message: Any) -> list[Any]:
    """Every text in which a model's answer says something, the content first."""
    texts: list[Any] = []
    if message.content:
        texts.append(_parts(message))
    extra = message.additional_kwargs or {}
    texts += [v for k in ("refusal", "reasoning_content") if isinstance(v := extra.get(k), str) and v]
    texts += [json_text(c) for c in getattr(message, "invalid_tool_calls", None) or ()]
    return texts


def _parts(message: Any) -> list[dict[str, Any]]:
    """A message's content as parts. Calls in it are not texts: they are judged as calls."""
    if isinstance(message.content, list) and getattr(message, "tool_calls", None):
        silent = {"type": "text", "text": ""}
        return parts_of([silent if isinstance(b, dict) and b.get("type") in _CALLS else b for b in message.content])
    return parts_of(message.content)


_CALLS = ("tool_use", "tool_call", "function_call", "input_json_delta")


def _task(messages: Sequence[Any]) -> str:
    """The system prompt and the user's newest request."""
    systems = [m for m in messages if getattr(m, "type", "") == "system"]
    humans = [m for m in messages if getattr(m, "type", "") == "human"]
    return task_of(*(text_of(m.content) for m in systems[:1] + humans[-1:]))


def _call_names(messages: Sequence[BaseMessage]) -> dict[str, str]:
    return {str(c.get("id")): str(c["name"]) for m in messages for c in getattr(m, "tool_calls", None) or ()}


def _subclassed(model: Any, hooks: _Hooks) -> Any:
    """A copy of a model that judges inside its own _generate, where neither callbacks
    nor streams have seen the answer yet. It stays an instance of the model's class."""
    if not isinstance(model, BaseChatModel):
        raise GuardError(
            f"{type(model).__name__} is no chat model by itself: give the agent the model that it stands for "
            "(init_chat_model without configurable_fields)"
        )
    cls: Any = getattr(type(model), "guardbook_base", type(model))
    tags = [*(model.tags or []), "nostream"] if "nostream" not in (model.tags or []) else model.tags
    copy = model.model_copy(update={"disable_streaming": True, "tags": tags})
    object.__setattr__(copy, "__class__", _subclass(cls))
    copy.__dict__["guardbook_hooks"] = hooks
    return copy


@functools.lru_cache(maxsize=256)
def _subclass(cls: Any) -> Any:
    own_async = cls._agenerate is not BaseChatModel._agenerate

    def generate(self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        hooks: _Hooks = self.__dict__["guardbook_hooks"]
        sent = hooks.before(messages, kwargs, hooks.judge.ask_new(*hooks.questions(messages, kwargs), one=True))
        result = cls._generate(self, sent, stop=stop, **kwargs)
        return hooks.after(result, hooks.judge.ask(*hooks.answers(result, sent)))

    async def agenerate(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        if not own_async:  # runs _generate, ours, in a thread
            return await BaseChatModel._agenerate(self, messages, stop=stop, **kwargs)
        hooks: _Hooks = self.__dict__["guardbook_hooks"]
        sent = hooks.before(messages, kwargs, await hooks.judge.aask_new(*hooks.questions(messages, kwargs), one=True))
        result = await cls._agenerate(self, sent, stop=stop, **kwargs)
        return hooks.after(result, await hooks.judge.aask(*hooks.answers(result, sent)))

    def stream(self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        yield _chunk(self._generate(messages, stop=stop, **kwargs))

    async def astream(self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        yield _chunk(await self._agenerate(messages, stop=stop, **kwargs))

    members = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "guardbook_base": cls,
        "_generate": generate,
        "_agenerate": agenerate,
        "_stream": stream,
        "_astream": astream,
    }
    members["__annotations__"] = {"guardbook_base": "ClassVar[Any]"}
    return type(cls)(cls.__name__, (cls,), members)


def _chunk(result: ChatResult) -> ChatGenerationChunk:
    """A judged answer as the one piece of a stream."""
    message: Any = result.generations[0].message
    calls = [
        {"name": c["name"], "args": json_text(c["args"]), "id": c.get("id"), "index": i, "type": "tool_call_chunk"}
        for i, c in enumerate(message.tool_calls)
    ]
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content=message.content,
            additional_kwargs=message.additional_kwargs,
            response_metadata=message.response_metadata,
            tool_call_chunks=calls,
            usage_metadata=message.usage_metadata,
            id=message.id,
        )
    )
