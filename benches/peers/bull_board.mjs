// bull-board with many jobs that wait: says `ready: URL` once it answers. Wants REDIS_URL, PORT and JOBS.
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import { Queue } from 'bullmq';
import express from 'express';
import { Redis } from 'ioredis';

const connection = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const queue = new Queue('peers-pages', { connection });
const jobs = Number(process.env.JOBS);
for (let n = 0; n < jobs; n += 1000) {
  await queue.addBulk(Array.from({ length: Math.min(1000, jobs - n) }, (_, at) => ({ name: 'sleep', data: { n: n + at } })));
}
const serverAdapter = new ExpressAdapter();
createBullBoard({ queues: [new BullMQAdapter(queue)], serverAdapter });
const port = Number(process.env.PORT);
express().use('/', serverAdapter.getRouter()).listen(port, '127.0.0.1', () => console.log(`ready: http://127.0.0.1:${port}`));
process.stdin.on('end', () => process.exit()).resume();
