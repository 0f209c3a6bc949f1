// Vercel's ai, with OpenAI's own provider in Chat Completions mode, streamed.
import { createOpenAI } from "@ai-sdk/openai";
import { talkBy } from "./vercel.mjs";

await talkBy((baseURL) => createOpenAI({ baseURL, apiKey: "none" }).chat("tiny"), true);
