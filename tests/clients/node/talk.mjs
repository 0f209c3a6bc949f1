// What the Node clients share: they are told a URL and the turns, and print what was answered.
import { text } from "node:stream/consumers";

export const TOKENS_MAX = 16;

export function parts(turn) {
  return [
    { type: "text", text: turn.text },
    { type: "image_url", image_url: { url: turn.picture } },
  ];
}

export async function talk(converse) {
  const { url, turns } = JSON.parse(await text(process.stdin));
  const said = turns.map(([text, picture]) => ({ text, picture }));
  console.log(JSON.stringify(await converse(`${url}/v1`, said)));
}
