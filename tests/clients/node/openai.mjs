// openai: the message is pushed as the client gives it.
import OpenAI from "openai";
import { parts, talk, TOKENS_MAX } from "./talk.mjs";

await talk(async (baseURL, turns) => {
  const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
  const messages = [];
  for (const turn of turns) {
    messages.push({ role: "user", content: parts(turn) });
    const answer = await client.chat.completions.create({
      model: "tiny", messages, max_tokens: TOKENS_MAX, temperature: 0,
    });
    messages.push(answer.choices[0].message);
  }
  return messages.filter(({ role }) => role === "assistant").map(({ content }) => content);
});
