// BullMQ: `node bullmq.cjs work <concurrency>` is a worker, `node bullmq.cjs send` a producer as sender.py is one.
const fs = require("node:fs");
const readline = require("node:readline");
const { setTimeout: sleep } = require("node:timers/promises");
const { Queue, Worker } = require("bullmq");

const BATCH = 500;
const NAP_MS = 10;
const address = new URL(process.env.BENCH_REDIS_URL);
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };

const now = () => (performance.timeOrigin + performance.now()) / 1000;

function work(concurrency) {
  const marks = fs.openSync(process.env.BENCH_MARKS, "a");
  const run = async (job) => {
    const startedAt = now();
    if (job.name === "nap") await sleep(NAP_MS);
    const mark = Buffer.alloc(24); // marks.py: RECORD
    [job.data, startedAt, now()].forEach((moment, place) => mark.writeDoubleLE(moment, place * 8));
    fs.writeSync(marks, mark);
  };
  const worker = new Worker("bench", run, { connection, concurrency });
  process.on("SIGTERM", () => worker.close().then(() => process.exit(0)));
}

async function send() {
  const queue = new Queue("bench", { connection });
  const obey = {
    async send({ name = "noop", count }) {
      for (let number = 0; number < count; number++) await queue.add(name, now());
    },
    async send_many({ name = "noop", count }) {
      for (let begin = 0; begin < count; begin += BATCH) {
        const size = Math.min(BATCH, count - begin);
        await queue.addBulk(Array.from({ length: size }, () => ({ name, data: now() })));
      }
    },
    async send_paced({ name = "noop", count, every_seconds }) {
      const begunAt = now();
      for (let number = 0; number < count; number++) {
        await sleep(Math.max(0, (begunAt + number * every_seconds - now()) * 1000));
        await queue.add(name, now());
      }
    },
    async send_at({ name = "noop", delays }) {
      const begunAt = now();
      for (const delay of delays) {
        const dueAt = begunAt + delay;
        await queue.add(name, dueAt, { delay: Math.max(0, Math.round((dueAt - now()) * 1000)) });
      }
    },
  };
  await queue.waitUntilReady();
  console.log(JSON.stringify({ bulk: true }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { order, ...rest } = JSON.parse(line);
    const begunAt = now();
    const before = process.cpuUsage();
    await obey[order](rest);
    const { user, system } = process.cpuUsage(before);
    console.log(JSON.stringify({ seconds: now() - begunAt, cpu_seconds: (user + system) / 1e6 }));
  }
  process.exit(0);
}

if (process.argv[2] === "work") work(Number(process.argv[3]));
else send();
