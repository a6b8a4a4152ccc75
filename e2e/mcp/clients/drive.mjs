// Both TypeScript clients take one order a line on their standard input, and answer
// each with a line: {"op":"call","name":"echo","arguments":{...}} -> {"text":"..."}.
import { createInterface } from 'node:readline';

export const answers = {
  sampling: () => ({ model: 'm', role: 'assistant', content: { type: 'text', text: 'plum' } }),
  elicitation: () => ({ action: 'accept', content: { yes: true } }),
};

// target is the transport to what the command line names: stdio COMMAND ARG... | http URL KEY
export function target(Stdio, HTTP) {
  const [how, where, ...rest] = process.argv.slice(2);
  if (how === 'stdio') return new Stdio({ command: where, args: rest, env: process.env, stderr: 'inherit' });
  return new HTTP(new URL(where), { requestInit: { headers: { 'X-Guardbook-Key': rest[0] } } });
}

export async function drive(client, transport, call) {
  const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');
  try {
    await client.connect(transport);
    say({ instructions: client.getInstructions() ?? '' });
  } catch (e) {
    say({ error: String(e.message) });
    process.exit(0);
  }
  const text = (list) => list.map((c) => c.text ?? '').join('');
  const orders = {
    tools: async () => ({ tools: (await client.listTools()).tools.map((t) => t.name) }),
    call: async ({ name, arguments: args }) => {
      let progress = 0;
      const r = await call(name, args ?? {}, { onprogress: () => progress++ });
      return { isError: r.isError ?? false, text: text(r.content), structured: r.structuredContent, progress };
    },
    cancel: async ({ name }) => {
      const stop = new AbortController();
      try {
        await call(name, {}, { onprogress: () => stop.abort('enough'), signal: stop.signal });
      } catch {
        return { cancelled: stop.signal.aborted };
      }
      return { cancelled: false };
    },
    resource: async ({ uri }) => ({ text: text((await client.readResource({ uri })).contents) }),
    prompt: async ({ name, arguments: args }) => ({ text: text((await client.getPrompt({ name, arguments: args })).messages.map((m) => m.content)) }),
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    try {
      say(await orders[order.op](order));
    } catch (e) {
      say({ error: String(e.message) });
    }
  }
  await client.close();
  process.exit(0);
}
