// LangChain: the AIMessage is pushed.
import { HumanMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { parts, talk, TOKENS_MAX } from "./talk.mjs";

await talk(async (baseURL, turns) => {
  const model = new ChatOpenAI({
    model: "tiny", apiKey: "none", temperature: 0, maxTokens: TOKENS_MAX, maxRetries: 0, configuration: { baseURL },
  });
  const messages = [];
  const answers = [];
  for (const turn of turns) {
    messages.push(new HumanMessage({ content: parts(turn) }));
    const answer = await model.invoke(messages);
    messages.push(answer);
    answers.push(answer.content);
  }
  return answers;
});
