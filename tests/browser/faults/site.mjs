// A site of its own, which a test may break: `deploy/dev/breakable`, told by lines what shall become of it.
import { spawn } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('../../../deploy/dev/breakable', import.meta.url));
const child = spawn(script, { stdio: ['pipe', 'pipe', 'inherit'] });
const over = new Promise((done) => { child.on('exit', done); });
const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
after(() => {
  child.stdin.end();
  return over;
});

/** What follows in the next line that begins so. */
async function told(begins) {
  for (;;) {
    const { value, done } = await lines.next();
    if (done) throw new Error(`it ended before it said ${begins}`);
    if (value.startsWith(begins)) return value.slice(begins.length);
  }
}

process.env.SIGNALBOX_NAME = 'tester';
process.env.SIGNALBOX_PASSWORD = await told('superuser: tester password: ');
const work = await told('work: ');
process.env.SIGNALBOX_URL = await told('ready: ');

/** Lets something become of a part, as in "kill redis"; gives back when it is so. */
export async function tell(deed) {
  child.stdin.write(`${deed}\n`);
  await told(`done: ${deed}`);
}

/** How many processes there are of a run. */
export const processes = (run) => readdirSync('/proc').filter((pid) => {
  try {
    const at = readlinkSync(`/proc/${pid}/cwd`);
    return at.startsWith(work) && at.includes(`/${run}/workspace`);
  } catch {
    return false;
  }
}).length;
