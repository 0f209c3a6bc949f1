// Vercel's ai with a model of any provider: conversations, streamed or not; calls and objects in both ways.
import { generateObject, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { called, DESCRIPTION, FORM_TOKENS_MAX, Reading, talk, TOKENS_MAX, TOOL } from "./talk.mjs";

const message = (turn) => ({
  role: "user", content: [{ type: "text", text: turn.text }, { type: "image", image: turn.picture }],
});
const settings = { maxOutputTokens: FORM_TOKENS_MAX, temperature: 0, maxRetries: 0 };
const said = async (streamed, asked) => (streamed ? streamText(asked) : await generateText(asked));

async function converse(model, turns, streamed) {
  const messages = [];
  const answers = [];
  for (const turn of turns) {
    messages.push(message(turn));
    const result = await said(streamed, { ...settings, model, messages, maxOutputTokens: TOKENS_MAX });
    answers.push(await result.text);
    messages.push(...(await result.response).messages);
  }
  return answers;
}

// The client calls the tool itself and sends its result back; a picture in it would become text.
async function useTool(model, turn, result) {
  const lookUp = tool({ description: DESCRIPTION, inputSchema: Reading, strict: true, execute: async () => result.text });
  const rounds = [];
  for (const [streamed, toolChoice] of [{ type: "tool", toolName: TOOL }, "required"].entries()) {
    const run = await said(streamed, {
      ...settings,
      model,
      messages: [message(turn)],
      tools: { [TOOL]: lookUp },
      toolChoice,
      stopWhen: stepCountIs(2),
      prepareStep: ({ stepNumber }) => (stepNumber ? { toolChoice: "auto" } : {}),
    });
    const [first, second] = await run.steps;
    rounds.push(called(first.toolCalls[0].toolName, first.toolCalls[0].input, second.text, false));
  }
  return rounds;
}

async function read(model, turn) {
  const asked = { ...settings, model, messages: [message(turn)] };
  const output = Output.object({ schema: Reading });
  const readings = [];
  for (const streamed of [false, true]) readings.push(await (await said(streamed, { ...asked, output })).output);
  return [...readings, (await generateObject({ ...asked, schema: Reading })).object];
}

// `modelOf` has a URL and gives a model.
export async function talkBy(modelOf, streamed = false) {
  await talk(
    (baseURL, turns) => converse(modelOf(baseURL), turns, streamed),
    (baseURL, turn, result) => useTool(modelOf(baseURL), turn, result),
    (baseURL, turn) => read(modelOf(baseURL), turn),
  );
}
