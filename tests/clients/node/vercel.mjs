// A conversation by Vercel's ai with a model of any provider, streamed or not.
import { generateText, streamText } from "ai";
import { TOKENS_MAX } from "./talk.mjs";

export { talk } from "./talk.mjs";

export async function converseBy(model, turns, streamed = false) {
  const messages = [];
  const answers = [];
  for (const turn of turns) {
    const content = [{ type: "text", text: turn.text }, { type: "image", image: turn.picture }];
    messages.push({ role: "user", content });
    const asked = { model, messages, maxOutputTokens: TOKENS_MAX, temperature: 0, maxRetries: 0 };
    const result = streamed ? streamText(asked) : await generateText(asked);
    answers.push(await result.text);
    messages.push(...(await result.response).messages);
  }
  return answers;
}
