// BullMQ's `worker.cancelJob` (only the worker that holds the job can): from the call to the death of the process that the job
// had started, which its own processor must kill; in ms, each time it reads a line.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Queue, Worker } from 'bullmq';

const url = new URL(process.env.REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), password: url.password || undefined, maxRetriesPerRequest: null };
const name = `peers-bullmq-${process.pid}`;

let started;
const worker = new Worker(name, (job, token, signal) => new Promise((resolve, reject) => {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  signal.addEventListener('abort', () => child.kill('SIGKILL'));
  child.on('exit', () => reject(new Error('cancelled')));
  child.on('spawn', () => started({ job: job.id, pid: child.pid }));
}), { connection });
worker.on('error', () => {});

// A zombie runs no more code.
const alive = (pid) => {
  try {
    return !'ZX'.includes(readFileSync(`/proc/${pid}/stat`, 'utf8').split(')').pop().trim()[0]);
  } catch {
    return false;
  }
};

const queue = new Queue(name, { connection });
console.log('ready:');
for await (const _ of createInterface(process.stdin)) {
  const running = new Promise((resolve) => { started = resolve; });
  await queue.add('nap', {}, { attempts: 1, removeOnFail: true });
  const { job, pid } = await running;
  const began = performance.now();
  worker.cancelJob(job);
  while (alive(pid)) await new Promise(setImmediate);
  console.log((performance.now() - began).toFixed(3));
}
await worker.close();
await queue.obliterate({ force: true });
await queue.close();
process.exit();
