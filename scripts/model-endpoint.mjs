// A model that plays a script, for real agents without a network: an HTTP server on loopback that
// speaks the streams of Anthropic, OpenAI (chat and responses) and Gemini. It prints its port.
//
// What it says depends on the last thing that a person said: RUNTOOL calls the agent's shell tool,
// once; SLOW streams for half a minute; anything else is answered in three pieces.

import { createServer } from "node:http";
import { appendFileSync } from "node:fs";

const COMMAND = "echo it ran >> tool-ran.txt";
const SHELLS = ["Bash", "bash", "run_shell_command", "exec_command", "shell_command", "shell"];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** What a shell tool of this name takes. */
function input(name) {
  // Codex runs what may not write unasked; its model asks for more.
  if (name === "exec_command") return { cmd: COMMAND, sandbox_permissions: "require_escalated", justification: "It leaves a mark" };
  if (name === "shell") return { command: ["bash", "-lc", COMMAND] };
  return { command: COMMAND, description: "Leaves a mark" };
}

/** Which of these to play, from what was said and which tools there are. */
function scene(said, tools) {
  const person = said.findLastIndex((entry) => entry.role === "user" && entry.text);
  const text = person < 0 ? "" : said[person].text;
  const ran = said.slice(person + 1).some((entry) => entry.result);
  const tool = SHELLS.find((name) => tools.includes(name));
  if (text.includes("RUNTOOL") && !ran && tool) return { tool, input: input(tool) };
  if (text.includes("SLOW")) return { pieces: Array.from({ length: 150 }, (_, n) => `piece ${n} `), every: 200 };
  return { pieces: ["the scripted ", "model ", "answers"], every: 10 };
}

const texts = (content) =>
  typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("");

const protocols = {
  anthropic: {
    read: (body) => ({
      tools: (body.tools ?? []).map((tool) => tool.name),
      said: (body.messages ?? []).map((message) => ({
        role: message.role,
        text: typeof message.content === "string" ? message.content : texts(message.content.filter((part) => part.type === "text")),
        result: Array.isArray(message.content) && message.content.some((part) => part.type === "tool_result"),
      })),
    }),
    async *events(body, play) {
      const usage = { input_tokens: 10, output_tokens: 5 };
      const message = { id: `msg_${Date.now()}`, type: "message", role: "assistant", model: body.model, content: [], stop_reason: null, stop_sequence: null, usage };
      yield { type: "message_start", message };
      const block = play.tool
        ? { type: "tool_use", id: `toolu_${Date.now()}`, name: play.tool, input: {} }
        : { type: "text", text: "" };
      yield { type: "content_block_start", index: 0, content_block: block };
      if (play.tool) {
        yield { type: "content_block_delta", index: 0, delta: { type: "input_json_delta", partial_json: JSON.stringify(play.input) } };
      }
      for (const text of play.pieces ?? []) {
        yield { type: "content_block_delta", index: 0, delta: { type: "text_delta", text } };
        await pause(play.every);
      }
      yield { type: "content_block_stop", index: 0 };
      yield { type: "message_delta", delta: { stop_reason: play.tool ? "tool_use" : "end_turn", stop_sequence: null }, usage };
      yield { type: "message_stop" };
    },
    frame: (event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`,
    whole: (body, play) => ({
      id: "msg_1", type: "message", role: "assistant", model: body.model, stop_reason: play.tool ? "tool_use" : "end_turn", stop_sequence: null,
      content: [play.tool ? { type: "tool_use", id: "toolu_1", name: play.tool, input: play.input } : { type: "text", text: play.pieces.join("") }],
      usage: { input_tokens: 10, output_tokens: 5 },
    }),
  },
  responses: {
    read: (body) => ({
      tools: (body.tools ?? []).map((tool) => tool.name ?? tool.type),
      said: (typeof body.input === "string" ? [{ role: "user", content: body.input }] : body.input ?? []).map((item) => ({
        role: item.role,
        text: texts(item.content),
        result: item.type?.endsWith("_output"),
      })),
    }),
    async *events(body, play) {
      const id = `resp_${Date.now()}`;
      const usage = { input_tokens: 10, input_tokens_details: { cached_tokens: 0 }, output_tokens: 5, output_tokens_details: { reasoning_tokens: 0 }, total_tokens: 15 };
      yield { type: "response.created", response: { id, status: "in_progress", output: [] } };
      const call = { type: "function_call", id: "fc_1", call_id: `call_${Date.now()}`, name: play.tool, arguments: JSON.stringify(play.input), status: "completed" };
      const words = { type: "message", id: "msg_1", role: "assistant", status: "completed", content: [{ type: "output_text", text: play.pieces?.join("") ?? "", annotations: [] }] };
      const item = play.tool ? call : words;
      yield { type: "response.output_item.added", output_index: 0, item: play.tool ? { ...call, arguments: "" } : { ...words, content: [], status: "in_progress" } };
      for (const delta of play.pieces ?? []) {
        yield { type: "response.output_text.delta", item_id: "msg_1", output_index: 0, content_index: 0, delta };
        await pause(play.every);
      }
      yield { type: "response.output_item.done", output_index: 0, item };
      yield { type: "response.completed", response: { id, status: "completed", output: [item], usage } };
    },
    frame: (event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`,
  },
  chat: {
    read: (body) => ({
      tools: (body.tools ?? []).map((tool) => tool.function.name),
      said: (body.messages ?? []).map((message) => ({ role: message.role, text: texts(message.content), result: message.role === "tool" })),
    }),
    async *events(body, play) {
      const chunk = (delta, finish_reason = null) => ({ id: "chat_1", object: "chat.completion.chunk", created: 1, model: body.model, choices: [{ index: 0, delta, finish_reason }] });
      if (play.tool) {
        yield chunk({ role: "assistant", tool_calls: [{ index: 0, id: `call_${Date.now()}`, type: "function", function: { name: play.tool, arguments: JSON.stringify(play.input) } }] });
      }
      for (const content of play.pieces ?? []) {
        yield chunk({ role: "assistant", content });
        await pause(play.every);
      }
      yield { ...chunk({}, play.tool ? "tool_calls" : "stop"), usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 } };
    },
    frame: (event) => `data: ${JSON.stringify(event)}\n\n`,
    last: "data: [DONE]\n\n",
    whole: (body, play) => ({ id: "chat_1", object: "chat.completion", created: 1, model: body.model, choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content: play.pieces?.join("") ?? "" } }], usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 } }),
  },
  gemini: {
    read: (body) => ({
      tools: (body.tools ?? []).flatMap((tool) => (tool.functionDeclarations ?? []).map((one) => one.name)),
      said: (body.contents ?? []).map((content) => ({ role: content.role, text: texts(content.parts), result: content.parts?.some((part) => part.functionResponse) })),
    }),
    async *events(body, play) {
      const usageMetadata = { promptTokenCount: 10, candidatesTokenCount: 5, totalTokenCount: 15 };
      const part = (parts, more = {}) => ({ candidates: [{ index: 0, content: { role: "model", parts }, ...more }], usageMetadata });
      if (play.tool) yield part([{ functionCall: { name: play.tool, args: play.input } }], { finishReason: "STOP" });
      for (const [n, text] of (play.pieces ?? []).entries()) {
        yield part([{ text }], n + 1 === play.pieces.length ? { finishReason: "STOP" } : {});
        await pause(play.every);
      }
    },
    frame: (event) => `data: ${JSON.stringify(event)}\n\n`,
    whole: (body, play) => ({ candidates: [{ index: 0, finishReason: "STOP", content: { role: "model", parts: [{ text: play.pieces?.join("") ?? "{}" }] } }], usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 5, totalTokenCount: 15 } }),
  },
};

/** Which protocol a request speaks, and whether it wants a stream. */
function route(path, body) {
  if (path.endsWith("/messages")) return ["anthropic", body.stream];
  if (path.endsWith("/responses")) return ["responses", true];
  if (path.endsWith("/chat/completions")) return ["chat", body.stream];
  if (path.includes(":streamGenerateContent")) return ["gemini", true];
  if (path.includes(":generateContent")) return ["gemini", false];
  return [null, false];
}

/** Writes down what came, where somebody wants to see it. */
function log(line) {
  if (process.env.MODEL_LOG) appendFileSync(process.env.MODEL_LOG, `${line}\n`);
}

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const path = new URL(request.url, "http://localhost").pathname;
  let body = {};
  try {
    body = JSON.parse(Buffer.concat(chunks).toString() || "{}");
  } catch {
    // What is no JSON is answered like something empty.
  }
  const [name, streams] = route(path, body);
  log(`${request.method} ${path}`);
  if (!name) {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ data: [], models: [], input_tokens: 10, totalTokens: 10 }));
    return;
  }
  const protocol = protocols[name];
  const { said, tools } = protocol.read(body);
  const play = scene(said, tools);
  log(JSON.stringify({ said: said.map((entry) => ({ ...entry, text: entry.text?.slice(-80) })), tools, play: play.tool ?? play.pieces.length }));
  if (!streams) {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(protocol.whole(body, play)));
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  for await (const event of protocol.events(body, play)) {
    if (response.destroyed) return;
    response.write(protocol.frame(event));
  }
  response.end(protocol.last ?? "");
});

server.listen(0, "127.0.0.1", () => console.log(server.address().port));
