import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, isStepCount, streamText, tool, wrapLanguageModel } from "ai";
import { guardMiddleware } from "guardbook/ai";
import { story } from "./ai.js";
import { anthropicURL, openaiURL } from "./world.js";

story("AI SDK 7", {
  generate: (o) => generateText({ ...(o as object), stopWhen: isStepCount(6) } as never) as never,
  stream: (o) => streamText({ ...(o as object), stopWhen: isStepCount(6) } as never) as never,
  generators: true,
  tool: tool as never,
  models: {
    chat: (id, fetch) =>
      createOpenAI({ baseURL: openaiURL, apiKey: "sk-test", ...(fetch && { fetch }) }).chat(id as never),
    responses: (id, fetch) =>
      createOpenAI({ baseURL: openaiURL, apiKey: "sk-test", ...(fetch && { fetch }) }).responses(id as never),
    anthropic: (id, fetch) =>
      createAnthropic({ baseURL: `${anthropicURL}/v1`, apiKey: "sk-test", ...(fetch && { fetch }) })(id as never),
  },
  middleware: (model, guard) => wrapLanguageModel({ model: model as never, middleware: guardMiddleware(guard) }),
});
