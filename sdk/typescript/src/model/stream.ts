import type { Decision } from "../interaction.js";

const marker = ": guardbook ";

/** The decision of a block, as the server tells it. */
export type Block = Pick<Decision, "decision" | "entry" | "rule" | "severity" | "message"> & Partial<Decision>;

/**
 * Passes a stream's bytes on as they come. The line `: guardbook {...}`, a comment to
 * every reader of server-sent events, says that policy ends the stream here: the
 * reader then gets an error in the place of what would follow.
 */
export function watch(body: ReadableStream<Uint8Array>, error: (block: Block) => Error): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  const find = new CommentFinder();
  let blocked: Error | undefined;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (blocked) {
          controller.error(blocked);
          return;
        }
        const { done, value } = await reader.read();
        if (done) {
          controller.close();
          return;
        }
        const found = find.next(value);
        if (!found) {
          controller.enqueue(value);
          return;
        }
        blocked = error(found.block);
        // The rest is the provider's form of the same news.
        reader.cancel().catch(() => undefined);
        if (found.before > 0) controller.enqueue(value.subarray(0, found.before));
        else controller.error(blocked);
      },
      async cancel(reason) {
        await reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

/** Finds the comment in bytes that are cut anywhere. */
export class CommentFinder {
  #line: number[] = []; // of a line that may still be the comment
  #candidate = true;

  /** The block, and how many bytes of the chunk come before the line that tells it. */
  next(chunk: Uint8Array): { block: Block; before: number } | undefined {
    let start = 0; // of the current line, in this chunk
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i] as number;
      if (byte === 10 || byte === 13) {
        const block = this.#candidate ? parse(this.#line) : undefined;
        if (block) return { block, before: start };
        this.#line = [];
        this.#candidate = true;
        start = i + 1;
      } else if (this.#candidate) {
        const at = this.#line.length;
        if ((at < marker.length && byte !== marker.charCodeAt(at)) || at > 64 << 10) {
          this.#candidate = false;
          this.#line = [];
        } else {
          this.#line.push(byte);
        }
      }
      if (!this.#candidate) {
        // Most bytes are of lines that begin otherwise: go to the line's end at once.
        const lf = chunk.indexOf(10, i + 1);
        const cr = chunk.indexOf(13, i + 1);
        const end = lf < 0 ? cr : cr < 0 ? lf : Math.min(lf, cr);
        if (end < 0) return undefined;
        i = end - 1;
      }
    }
    return undefined;
  }
}

function parse(line: number[]): Block | undefined {
  if (line.length <= marker.length) return undefined;
  try {
    const block = JSON.parse(Buffer.from(line).toString("utf8", marker.length)) as Block;
    return typeof block === "object" && block !== null && typeof block.decision === "string" ? block : undefined;
  } catch {
    return undefined;
  }
}
