// The official Node SDK against a running gateway: node openai.mjs BASE_URL KEY MODEL
import OpenAI from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];
const said = {};

const whole = await client.chat.completions.create({ model, messages });
said.whole = whole.choices[0].message.content;
said.usage = whole.usage.prompt_tokens;

said.stream = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true }))
  said.stream += chunk.choices[0]?.delta?.content ?? "";

const parameters = { type: "object", properties: { city: { type: "string" } } };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const runner = client.chat.completions.stream({ model, messages, tools });
const final = await runner.finalChatCompletion();
said.call = JSON.parse(final.choices[0].message.tool_calls[0].function.arguments);

const response = await client.responses.create({ model, input: "hi" });
said.response = response.output_text;
said.stored = (await client.responses.retrieve(response.id)).output_text;

said.models = (await client.models.list()).data.length > 0;
said.embedding = (
  await client.embeddings.create({ model: `${model}-embed`, input: "a", encoding_format: "float" })
).data[0].embedding.length;
try {
  await client.chat.completions.create({ model: "nope", messages });
} catch (error) {
  said.error = [error.constructor.name, error.status, error.code];
}
console.log(JSON.stringify(said));
