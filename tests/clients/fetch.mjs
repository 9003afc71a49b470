// One chat call by Node's own fetch: URL, token, "stream" or "whole", what is asked. Prints one line of JSON.
const [url, token, how, words] = process.argv.slice(2);
const answer = await fetch(`${url}/openai/v1/chat/completions`, {
  method: "POST",
  headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
  body: JSON.stringify({
    model: "gpt-stand-in",
    stream: how === "stream",
    messages: [{ role: "user", content: words ?? "tell me about the ticket" }],
  }),
});
let raw = "";
const decoder = new TextDecoder();
for await (const part of answer.body) raw += decoder.decode(part, { stream: true });
let text = "";
if (how === "stream" && answer.ok) {
  for (const line of raw.split("\n")) {
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    for (const choice of JSON.parse(line.slice(6)).choices) text += choice.delta.content ?? "";
  }
} else {
  text = JSON.parse(raw).choices?.[0].message.content ?? "";
}
const id = answer.headers.get("x-request-id");
console.log(JSON.stringify({ status: answer.status, id, text, raw }));
