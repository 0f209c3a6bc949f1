// openai: the message is pushed as the client gives it.
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { called, DESCRIPTION, FORM_TOKENS_MAX, parts, Reading, talk, TOKENS_MAX, TOOL } from "./talk.mjs";

const clientOf = (baseURL) => new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const message = (turn) => ({ role: "user", content: parts(turn) });

async function converse(baseURL, turns) {
  const client = clientOf(baseURL);
  const messages = [];
  for (const turn of turns) {
    messages.push(message(turn));
    const answer = await client.chat.completions.create({
      model: "tiny", messages, max_tokens: TOKENS_MAX, temperature: 0,
    });
    messages.push(answer.choices[0].message);
  }
  return messages.filter(({ role }) => role === "assistant").map(({ content }) => content);
}

// The message of one answer that the client parses, streamed or not.
async function parsed(baseURL, streamed, asked) {
  const { completions } = clientOf(baseURL).chat;
  const fields = { model: "tiny", max_completion_tokens: FORM_TOKENS_MAX, temperature: 0, ...asked };
  const answer = await (streamed ? completions.stream(fields).finalChatCompletion() : completions.parse(fields));
  return answer.choices[0].message;
}

async function useTool(baseURL, turn, result) {
  const tools = [zodFunction({ name: TOOL, description: DESCRIPTION, parameters: Reading })];
  const choices = [{ type: "function", function: { name: TOOL } }, "required"];
  const rounds = [];
  for (const [streamed, tool_choice] of choices.entries()) {
    const messages = [message(turn)];
    const said = await parsed(baseURL, streamed, { messages, tools, tool_choice, parallel_tool_calls: false });
    const [call] = said.tool_calls;
    messages.push(said, { role: "tool", tool_call_id: call.id, content: parts(result) });
    const after = await clientOf(baseURL).chat.completions.create({
      model: "tiny", messages, tools, tool_choice: "none", max_completion_tokens: TOKENS_MAX, temperature: 0,
    });
    rounds.push(called(call.function.name, call.function.parsed_arguments, after.choices[0].message.content));
  }
  return rounds;
}

async function read(baseURL, turn) {
  const asked = { messages: [message(turn)], response_format: zodResponseFormat(Reading, "reading") };
  const said = [await parsed(baseURL, false, asked), await parsed(baseURL, true, asked)];
  return said.map((each) => each.parsed);
}

await talk(converse, useTool, read);
