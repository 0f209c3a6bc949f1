// Vercel's ai, with its provider for OpenAI-compatible servers: the response's messages are pushed.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { talkBy } from "./vercel.mjs";

await talkBy((baseURL) => createOpenAICompatible({ name: "mmplane", baseURL, supportsStructuredOutputs: true })("tiny"));
