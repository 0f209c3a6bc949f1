// Vercel's ai, with its provider for OpenAI-compatible servers: the response's messages are pushed.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { converseBy, talk } from "./vercel.mjs";

await talk((baseURL, turns) => converseBy(createOpenAICompatible({ name: "mmplane", baseURL })("tiny"), turns));
