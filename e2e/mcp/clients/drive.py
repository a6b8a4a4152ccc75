"""Both Python clients take one order a line on their standard input, and answer each
with a line: {"op":"call","name":"echo","arguments":{...}} -> {"text":"..."}."""

import asyncio
import json
import sys


def say(answer):
    print(json.dumps(answer), flush=True)


def text(parts):
    return "".join(getattr(p, "text", "") for p in parts)


async def drive(session):
    async def call(order, progress):
        return await session.call_tool(order["name"], order.get("arguments") or {}, progress_callback=progress)

    async def do(order):
        if order["op"] == "tools":
            return {"tools": [t.name for t in (await session.list_tools()).tools]}
        if order["op"] == "call":
            seen = 0

            async def progress(*_):
                nonlocal seen
                seen += 1

            r = (await call(order, progress)).model_dump(by_alias=True)
            return {
                "isError": bool(r.get("isError")),
                "text": "".join(c.get("text", "") for c in r["content"]),
                "structured": r.get("structuredContent"),
                "progress": seen,
            }
        if order["op"] == "cancel":
            begun = asyncio.Event()

            async def progress(*_):
                begun.set()

            task = asyncio.create_task(call(order, progress))
            await begun.wait()
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return {"cancelled": True}
            return {"cancelled": False}
        if order["op"] == "resource":
            return {"text": text((await session.read_resource(order["uri"])).contents)}
        if order["op"] == "prompt":
            r = await session.get_prompt(order["name"], order.get("arguments"))
            return {"text": text(m.content for m in r.messages)}
        raise ValueError(order["op"])

    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            say(await do(json.loads(line)))
        except Exception as e:
            say({"error": str(e) or type(e).__name__})
