// Vercel's ai, with OpenAI's own provider in Chat Completions mode, streamed.
import { createOpenAI } from "@ai-sdk/openai";
import { converseBy, talk } from "./vercel.mjs";

await talk((baseURL, turns) => converseBy(createOpenAI({ baseURL, apiKey: "none" }).chat("tiny"), turns, true));
