// Every call of the official Node SDK that works here, as its documentation shows it; prints what each gave, as JSON.
import OpenAI, { AuthenticationError, toFile } from "openai";

const client = new OpenAI(); // OPENAI_BASE_URL, OPENAI_API_KEY
const [model, line, webhook] = JSON.parse(process.env.CALLS);
const messages = [{ role: "user", content: [{ type: "image_url", image_url: { url: line } }] }];
const input = [{ role: "user", content: [{ type: "input_image", image_url: line, detail: "auto" }] }];
const gave = {};

gave.chat = (await client.chat.completions.create({ model, messages })).choices[0].message.content;

gave.chat_stream = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true }))
  gave.chat_stream += chunk.choices[0]?.delta?.content ?? "";

gave.chat_stream_helper = await client.chat.completions.stream({ model, messages }).finalContent();

gave.response = (await client.responses.create({ model, input })).output_text;

gave.response_stream = "";
for await (const event of await client.responses.create({ model, input, stream: true }))
  if (event.type === "response.output_text.delta") gave.response_stream += event.delta;

gave.response_stream_helper = (await client.responses.stream({ model, input }).finalResponse()).output_text;

let background = await client.responses.create({ model, input, background: true });
for await (const event of await client.responses.retrieve(background.id, { stream: true }))
  if (event.type === "response.completed") gave.response_in_background = event.response.output_text;
await client.responses.delete(background.id);

const image = Buffer.from(line.split(",")[1], "base64");
const upload = await client.files.create({ file: await toFile(image, "line.png"), purpose: "vision" });
const uploaded = [{ role: "user", content: [{ type: "input_image", file_id: upload.id, detail: "auto" }] }];
gave.upload = (await client.responses.create({ model, input: uploaded })).output_text;
gave.file_is_whole = Buffer.from(await (await client.files.content(upload.id)).arrayBuffer()).equals(image);
gave.files = [];
for await (const file of client.files.list()) gave.files.push(file.purpose);
gave.file_is_deleted = (await client.files.delete(upload.id)).deleted;

gave.models = [];
for await (const known of client.models.list()) gave.models.push(known.id);
gave.model = (await client.models.retrieve("trocr-tiny")).id;

const requests = [0, 1].map((n) =>
  JSON.stringify({ custom_id: `line-${n}`, method: "POST", url: "/v1/chat/completions", body: { model, messages } }),
);
const file = await client.files.create({ file: await toFile(Buffer.from(requests.join("\n")), "batch.jsonl"), purpose: "batch" });
let batch = await client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" });
while (!["completed", "failed"].includes(batch.status)) batch = await client.batches.retrieve(batch.id);
gave.batch = batch.request_counts;
gave.batch_output = (await (await client.files.content(batch.output_file_id)).text()).trim().split("\n").map((text) => JSON.parse(text).custom_id);

gave.webhook = (await client.webhooks.unwrap(webhook.body, webhook.headers, webhook.secret)).type;

try {
  await new OpenAI({ apiKey: "ink_wrong" }).models.list();
} catch (error) {
  gave.wrong_key = error instanceof AuthenticationError && error.code;
}
console.log(JSON.stringify(gave));
