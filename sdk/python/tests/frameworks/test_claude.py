"""The Claude Agent SDK with its own CLI, against a real server and a stand-in model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ResultMessage,
    TextBlock,
    ToolResultBlock,
    UserMessage,
    create_sdk_mcp_server,
    query,
    tool,
)
from stage import INJECTION, SECRET, Stage, in_front_of, plan

arun = asyncio.new_event_loop().run_until_complete
ran: list[str] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    ran.clear()


@tool("read_document", "Reads a document.", {"name": str})
async def read_document(given: Any) -> Any:
    ran.append(given["name"])
    if given["name"] == "fails":
        raise RuntimeError("the disk is full")
    if given["name"] == "fails with orders":
        raise RuntimeError(INJECTION)
    text = {"poisoned": INJECTION, "secret": f"the key is {SECRET}, keep it"}.get(given["name"], "nothing of note")
    return {"content": [{"type": "text", "text": text}]}


@tool("delete_everything", "Deletes everything.", {})
async def delete_everything(given: Any) -> Any:
    ran.append("deleted")
    return {"content": [{"type": "text", "text": "gone"}]}


class Heard:
    """What came of a run."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.texts: list[str] = []
        self.end: ResultMessage | None = None
        self.error: Exception | None = None


def run(
    stage: Stage,
    guard: Any,
    folder: Path,
    *turns: Any,
    prompt: str = "When is my appointment?",
    url: str = "",
    **settings: Any,
) -> Heard:
    options = ClaudeAgentOptions(
        model=plan(*turns),
        cwd=folder,
        max_turns=8,
        permission_mode="bypassPermissions",
        setting_sources=[],
        mcp_servers={"crm": create_sdk_mcp_server("crm", tools=[read_document, delete_everything])},
        allowed_tools=["Bash", "Read", "mcp__crm__read_document", "mcp__crm__delete_everything"],
        env={
            "ANTHROPIC_BASE_URL": (url or stage.provider) + "/anthropic",
            "ANTHROPIC_API_KEY": "none",
            "IS_SANDBOX": "1",
            "HOME": str(folder),
            "CLAUDE_CONFIG_DIR": str(folder / "claude"),
            "ANTHROPIC_SMALL_FAST_MODEL": plan("A title."),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_MAX_RETRIES": "1",
        },
    )
    heard = Heard()

    async def main() -> None:
        async for message in query(prompt=prompt, options=guard.claude(options, **settings)):
            if isinstance(message, UserMessage) and not isinstance(message.content, str):
                heard.results += [str(b.content) for b in message.content if isinstance(b, ToolResultBlock)]
            elif isinstance(message, AssistantMessage):
                heard.texts += [b.text for b in message.content if isinstance(b, TextBlock)]
            elif isinstance(message, ResultMessage):
                heard.end = message

    try:
        arun(asyncio.wait_for(main(), 60))
    except TimeoutError:
        raise
    except Exception as err:
        heard.error = err
    return heard


def test_denied_calls_come_back_and_the_agent_goes_on(stage: Stage, tmp_path: Path) -> None:
    name = stage.agent()
    calls = [("mcp__crm__delete_everything", {}), ("mcp__crm__read_document", {"name": "plain"})]
    heard = run(stage, stage.guard(name), tmp_path, calls, "On 9 March.")
    assert "nobody deletes" in heard.results[0]
    assert "nothing of note" in heard.results[1]
    assert ran == ["plain"]
    assert heard.texts[-1] == "On 9 March."
    told = stage.told(name)
    assert "tool_call/mcp__crm__delete_everything/block" in told
    assert "tool_call/mcp__crm__read_document/allow" in told
    assert told[0] == "input//allow"
    assert told[-1] == "output//allow"
    assert len({e["session"] for e in stage.book(name)}) == 1


def test_results_are_judged_before_the_model_reads_them(stage: Stage, tmp_path: Path) -> None:
    name = stage.agent()
    (tmp_path / "page.txt").write_text(f"Page one.\n{INJECTION}\n", encoding="utf-8")
    (tmp_path / "key.txt").write_text(f"the key is {SECRET}, keep it\n", encoding="utf-8")
    calls = [
        ("mcp__crm__read_document", {"name": "poisoned"}),
        ("mcp__crm__read_document", {"name": "secret"}),
        ("Bash", {"command": "cat page.txt", "description": "reads"}),
        ("Read", {"file_path": str(tmp_path / "page.txt")}),
        ("Bash", {"command": "cat key.txt", "description": "reads"}),
        ("Read", {"file_path": str(tmp_path / "key.txt")}),
    ]
    with in_front_of(stage.provider) as provider:
        heard = run(stage, stage.guard(name), tmp_path, *[[c] for c in calls], "Done.", url=provider.url)
        sent = "".join(provider.bodies)
    assert heard.texts[-1:] == ["Done."], (heard.results, heard.error)
    assert "maintenance mode" not in sent
    assert SECRET not in sent
    assert "[REDACTED:secret]" in sent
    assert len([t for t in stage.told(name) if t.startswith("tool_result") and t.endswith("/block")]) == 3


def test_a_denied_prompt_never_reaches_the_model(stage: Stage, tmp_path: Path) -> None:
    with in_front_of(stage.provider) as provider:
        heard = run(stage, stage.guard(), tmp_path, "Hello.", prompt=INJECTION, url=provider.url)
        assert "maintenance mode" not in "".join(provider.bodies)
    assert "Hello." not in heard.texts


def test_a_killed_agent_gets_nothing_more(stage: Stage, tmp_path: Path) -> None:
    name = stage.agent()
    stage.kill(name)
    heard = run(stage, stage.guard(name), tmp_path, "Hello.")
    assert "Hello." not in heard.texts


def test_answers_are_judged_on_the_way_through_the_gateway(stage: Stage, tmp_path: Path) -> None:
    name = stage.agent()
    heard = run(stage, stage.guard(name), tmp_path, f"Here it comes: the key is {SECRET}, take it.", gateway=True)
    assert SECRET not in str(heard.texts) + str(heard.end)
    assert "output//block" in stage.told(name)


def test_a_denied_call_through_the_gateway_comes_back_and_the_agent_goes_on(stage: Stage, tmp_path: Path) -> None:
    name = stage.agent()
    calls = [("mcp__crm__delete_everything", {}), ("mcp__crm__read_document", {"name": "plain"})]
    heard = run(stage, stage.guard(name), tmp_path, calls, "On 9 March.", gateway=True)
    assert "nobody deletes" in heard.results[0]
    assert (ran, heard.texts[-1]) == (["plain"], "On 9 March.")
    book = [e for e in stage.book(name) if e["kind"] == "tool_call"]
    assert [e.get("would") or e["decision"] for e in book if e.get("deferred")] == ["block", "allow"]
    assert sorted(e["decision"] for e in book if not e.get("deferred")) == ["allow", "block"]


def test_an_error_that_may_not_be_read_ends_the_run(stage: Stage, tmp_path: Path) -> None:
    name = stage.agent()
    turns = [("mcp__crm__read_document", {"name": "fails with orders"})], "Done."
    with in_front_of(stage.provider) as provider:
        heard = run(stage, stage.guard(name), tmp_path, *turns, url=provider.url)
        sent = "".join(provider.bodies)
    assert ran == ["fails with orders"]
    assert "maintenance mode" not in sent
    assert "Done." not in heard.texts
    assert "tool_result/mcp__crm__read_document/block" in stage.told(name)


def test_an_error_inside_a_tool_is_the_tools_own(stage: Stage, tmp_path: Path) -> None:
    heard = run(stage, stage.guard(), tmp_path, [("mcp__crm__read_document", {"name": "fails"})], "Sorry.")
    assert "the disk is full" in heard.results[0]
    assert heard.texts[-1] == "Sorry."


def test_without_a_server_no_tool_runs(stage: Stage, tmp_path: Path) -> None:
    guard = stage.guard(url="http://127.0.0.1:9", budget=0.25)
    heard = run(stage, guard, tmp_path, [("mcp__crm__read_document", {"name": "plain"})], "Done.")
    assert ran == []
    assert "could not be asked" in heard.results[0]
    assert heard.texts[-1] == "Done."


def test_other_hooks_and_options_stay(stage: Stage) -> None:
    from claude_agent_sdk import HookMatcher

    async def other(given: Any, tool_use_id: Any, context: Any) -> Any:
        return {}

    given = ClaudeAgentOptions(hooks={"PreToolUse": [HookMatcher(matcher="Bash", hooks=[other])]}, model="m")
    guarded = stage.guard().claude(given)
    assert len(given.hooks["PreToolUse"]) == 1
    assert len(guarded.hooks["PreToolUse"]) == 2
    assert guarded.model == "m"
    assert guarded.hooks["PreToolUse"][1].hooks == [other]
    assert guarded.hooks["PreToolUse"][0].matcher is None
