// The client of the interop tests on the TypeScript SDK 2.x; see drive.mjs.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { answers, drive, target } from './drive.mjs';

const client = new Client({ name: 'interop', version: '1' }, { capabilities: { sampling: {}, elicitation: { form: {} } }, versionNegotiation: { mode: 'auto' } });
client.setRequestHandler('sampling/createMessage', answers.sampling);
client.setRequestHandler('elicitation/create', answers.elicitation);
await drive(client, target(StdioClientTransport, StreamableHTTPClientTransport), (name, args, options) => client.callTool({ name, arguments: args }, options));
