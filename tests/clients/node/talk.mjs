// What the Node clients share: what they are given, what they ask for, and how they print what came of it.
import { text } from "node:stream/consumers";
import { z } from "zod";

export const TOKENS_MAX = 16;
// Of an answer in a form: a call is 90 tokens of the built-in model.
export const FORM_TOKENS_MAX = 160;
export const TOOL = "look_up";
export const DESCRIPTION = "What a number stands for";

// A number that a picture shows: what the tool is given, and the form of an answer.
export const Reading = z.object({ number: z.string().regex(/^[0-9]{4}$/).describe("Its digits"), sure: z.boolean() });

export function parts(turn) {
  return [
    { type: "text", text: turn.text },
    { type: "image_url", image_url: { url: turn.picture } },
  ];
}

// One round: a call as the client read it, and what the model said to the tool's result, with or without a picture.
export function called(name, args, after, picture = true) {
  return { name, arguments: args, after, picture };
}

// `converse` has turns and gives answers; `useTool` has a turn and the tool's result, and gives rounds, each of two
// requests; `read` has a turn and gives answers in the form of `Reading`, each of one request.
export async function talk(converse, useTool, read) {
  const { url, turns, result } = JSON.parse(await text(process.stdin));
  const [said, given] = [turns, [result]].map((some) => some.map(([text, picture]) => ({ text, picture })));
  const baseURL = `${url}/v1`;
  const answers = await converse(baseURL, said);
  const rounds = await useTool(baseURL, said[0], given[0]);
  const readings = await read(baseURL, said[0]);
  console.log(JSON.stringify({ answers, rounds, readings }));
}
