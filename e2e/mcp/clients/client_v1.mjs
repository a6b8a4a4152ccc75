// The client of the interop tests on the TypeScript SDK 1.x; see drive.mjs.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CreateMessageRequestSchema, ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { answers, drive, target } from './drive.mjs';

const client = new Client({ name: 'interop', version: '1' }, { capabilities: { sampling: {}, elicitation: {} } });
client.setRequestHandler(CreateMessageRequestSchema, answers.sampling);
client.setRequestHandler(ElicitRequestSchema, answers.elicitation);
await drive(client, target(StdioClientTransport, StreamableHTTPClientTransport), (name, args, options) => client.callTool({ name, arguments: args }, undefined, options));
