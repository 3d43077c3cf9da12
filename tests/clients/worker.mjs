// A worker of the TypeScript SDK, unpatched: `node worker.mjs poll|run|handle MAX_IDLE_MS`.
//
// What it talks to is in the environment, by the names of `ant worker poll --on-work`. `poll` drains the queue and prints
// the id of each item, a line each; `run` serves sessions until it is told to terminate; `handle` serves the one item that the
// environment names. Its twin is worker.py.
import Anthropic from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import { betaAgentToolset20260401 } from '@anthropic-ai/sdk/tools/agent-toolset/node';

const [mode, maxIdleMs] = process.argv.slice(2);
const client = new Anthropic();
const environmentId = process.env.ANTHROPIC_ENVIRONMENT_ID;
const environmentKey = process.env.ANTHROPIC_ENVIRONMENT_KEY;

const weather = betaTool({
  name: 'get_weather',
  description: 'The weather of a city.',
  inputSchema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  run: ({ city }) => `sunny in ${city}`,
});

const worker = () =>
  client.beta.environments.work.worker({
    environmentId,
    environmentKey,
    maxIdleMs: Number(maxIdleMs),
    tools: (ctx) => [...betaAgentToolset20260401(ctx), weather],
  });

async function run() {
  const stopping = new AbortController();
  process.once('SIGTERM', () => stopping.abort());
  await worker().run(stopping.signal);
}

async function poll() {
  for await (const item of client.beta.environments.work.poller({ environmentId, environmentKey, drain: true })) {
    console.log(item.id);
  }
}

await { poll, run, handle: () => worker().handleItem() }[mode]();
