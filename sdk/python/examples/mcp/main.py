"""A client session of MCP, guarded: ``python examples/mcp/main.py``"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import clinic

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from guardbook import Guard

clinic.start_server("clinic-mcp")
guard = Guard(agent="clinic-mcp")


async def main() -> None:
    server = StdioServerParameters(command=sys.executable, args=[str(Path(__file__).with_name("server.py"))])
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        session = guard.wrap(session, server="clinic")
        await session.initialize()
        clinic.show("tools", [tool.name for tool in (await session.list_tools()).tools])
        for name, arguments in (
            ("read_document", {"name": "intake-form-4711"}),
            ("query_database", {"query": "SELECT * FROM billing"}),
            ("query_database", {"query": "SELECT starts_at FROM appointments WHERE patient_id = 4711 LIMIT 5"}),
        ):
            result = await session.call_tool(name, arguments)
            clinic.show(name, result.content[0].text)


asyncio.run(main())
