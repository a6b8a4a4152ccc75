"""The client of the interop tests on the Python SDK 1.x; see drive.py."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager

from drive import drive, say
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client


async def sampling(_, __):
    return types.CreateMessageResult(model="m", role="assistant", content=types.TextContent(type="text", text="plum"))


async def elicitation(_, __):
    return types.ElicitResult(action="accept", content={"yes": True})


@asynccontextmanager
async def streams():
    how, where, *rest = sys.argv[1:]
    if how == "stdio":
        async with stdio_client(StdioServerParameters(command=where, args=rest, env=dict(os.environ))) as (r, w):
            yield r, w
    else:
        async with streamablehttp_client(where, headers={"X-Guardbook-Key": rest[0]}) as (r, w, _):
            yield r, w


async def main():
    async with streams() as (r, w), ClientSession(r, w, sampling_callback=sampling, elicitation_callback=elicitation) as session:
        try:
            hello = await session.initialize()
        except Exception as e:
            say({"error": str(e)})
            return
        say({"instructions": hello.instructions or ""})
        await drive(session)


asyncio.run(main())
