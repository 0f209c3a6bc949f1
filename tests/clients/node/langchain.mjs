// LangChain: the AIMessage is pushed.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { called, DESCRIPTION, FORM_TOKENS_MAX, parts, Reading, talk, TOKENS_MAX, TOOL } from "./talk.mjs";

const modelOf = (baseURL, maxTokens) => new ChatOpenAI({
  model: "tiny", apiKey: "none", temperature: 0, maxTokens, maxRetries: 0, configuration: { baseURL },
});
const message = (turn) => new HumanMessage({ content: parts(turn) });

async function converse(baseURL, turns) {
  const model = modelOf(baseURL, TOKENS_MAX);
  const messages = [];
  const answers = [];
  for (const turn of turns) {
    messages.push(message(turn));
    const answer = await model.invoke(messages);
    messages.push(answer);
    answers.push(answer.content);
  }
  return answers;
}

// The message that the chunks of a stream add up to.
async function streamed(model, messages) {
  let whole;
  for await (const chunk of await model.stream(messages)) whole = whole ? whole.concat(chunk) : chunk;
  return whole;
}

async function useTool(baseURL, turn, result) {
  const lookUp = tool(async () => result.text, { name: TOOL, description: DESCRIPTION, schema: Reading });
  const forced = modelOf(baseURL, FORM_TOKENS_MAX).bindTools([lookUp], { tool_choice: "any", strict: true });
  const free = modelOf(baseURL, TOKENS_MAX).bindTools([lookUp], { strict: true });
  const rounds = [];
  for (const ask of [(model, messages) => model.invoke(messages), streamed]) {
    const messages = [message(turn)];
    messages.push(await ask(forced, messages));
    const [call] = messages[1].tool_calls;
    messages.push(new ToolMessage({ content: parts(result), tool_call_id: call.id, name: call.name }));
    rounds.push(called(call.name, call.args, (await ask(free, messages)).content));
  }
  return rounds;
}

async function read(baseURL, turn) {
  const model = modelOf(baseURL, FORM_TOKENS_MAX);
  const [bySchema, byCall] = ["jsonSchema", "functionCalling"].map((method) =>
    model.withStructuredOutput(Reading, { method, name: "reading", strict: true }));
  const readings = [await bySchema.invoke([message(turn)]), await byCall.invoke([message(turn)])];
  let last;
  for await (const some of await bySchema.stream([message(turn)])) last = some;
  return [...readings, last];
}

await talk(converse, useTool, read);
