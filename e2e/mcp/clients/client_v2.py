"""The client of the interop tests on the Python SDK 2.x; see drive.py."""

import asyncio
import os
import sys

import httpx2
from drive import drive, say
from mcp import Client, StdioServerParameters, types
from mcp.client.streamable_http import streamable_http_client


async def sampling(_, __):
    return types.CreateMessageResult(model="m", role="assistant", content=types.TextContent(type="text", text="plum"))


async def elicitation(_, __):
    return types.ElicitResult(action="accept", content={"yes": True})


def target():
    how, where, *rest = sys.argv[1:]
    if how == "stdio":
        return StdioServerParameters(command=where, args=rest, env=dict(os.environ))
    return streamable_http_client(where, http_client=httpx2.AsyncClient(headers={"X-Guardbook-Key": rest[0]}, timeout=30))


async def main():
    try:
        async with Client(target(), sampling_callback=sampling, elicitation_callback=elicitation) as client:
            say({"instructions": getattr(client, "instructions", None) or ""})
            await drive(client)
    except Exception as e:
        say({"error": str(e)})


asyncio.run(main())
