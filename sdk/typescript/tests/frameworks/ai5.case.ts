import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAI as createOpenAI3 } from "@ai-sdk/openai-v3";
import { generateText, stepCountIs, streamText, tool, wrapLanguageModel } from "ai";
import * as ai6 from "ai-v6";
import { guardMiddleware } from "guardbook/ai";
import { story } from "./ai.js";
import { openaiURL } from "./world.js";

story("AI SDK 5", {
  generate: (o) => generateText({ ...(o as object), stopWhen: stepCountIs(6) } as never) as never,
  stream: (o) => streamText({ ...(o as object), stopWhen: stepCountIs(6) } as never) as never,
  generators: false,
  tool: tool as never,
  models: {
    chat: (id, fetch) =>
      createOpenAI({ baseURL: openaiURL, apiKey: "sk-test", ...(fetch && { fetch }) }).chat(id as never),
    responses: (id, fetch) =>
      createOpenAI({ baseURL: openaiURL, apiKey: "sk-test", ...(fetch && { fetch }) }).responses(id as never),
  },
  middleware: (model, guard) => wrapLanguageModel({ model: model as never, middleware: guardMiddleware(guard) }),
});

story("AI SDK 6", {
  generate: (o) => ai6.generateText({ ...(o as object), stopWhen: ai6.stepCountIs(6) } as never) as never,
  stream: (o) => ai6.streamText({ ...(o as object), stopWhen: ai6.stepCountIs(6) } as never) as never,
  generators: true,
  tool: ai6.tool as never,
  models: {
    chat: (id, fetch) =>
      createOpenAI3({ baseURL: openaiURL, apiKey: "sk-test", ...(fetch && { fetch }) }).chat(id as never),
    responses: (id, fetch) =>
      createOpenAI3({ baseURL: openaiURL, apiKey: "sk-test", ...(fetch && { fetch }) }).responses(id as never),
  },
  middleware: (model, guard) =>
    ai6.wrapLanguageModel({ model: model as never, middleware: guardMiddleware<"v3">(guard) }),
});
