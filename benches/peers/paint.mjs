// From the address to rows that are painted, in Chromium, cold: the runs page, the same bytes as static files, and the lists
// of other consoles with JOBS jobs each. Rounds are interleaved; medians with the least and the most, in ms.
// Wants SIGNALBOX_URL, SIGNALBOX_NAME, SIGNALBOX_PASSWORD, REDIS_URL, and PLAYWRIGHT, the folder of that package.
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { createServer as createSocket } from 'node:net';
import { createRequire } from 'node:module';
import { loadavg } from 'node:os';
import { createInterface } from 'node:readline';
import { gzipSync } from 'node:zlib';

const { chromium } = createRequire(import.meta.url)(process.env.PLAYWRIGHT);
const rounds = Number(process.env.PAINT_ROUNDS ?? 15);
const ours = process.env.SIGNALBOX_URL.replace(/\/$/, '');
/** A floor that varies by more than this within the run says that the machine is busy with something else. */
const SPREAD_MAX = 2.5;

const port = () => new Promise((resolve) => {
  const socket = createSocket().listen(0, '127.0.0.1', () => {
    const { port } = socket.address();
    socket.close(() => resolve(port));
  });
});

async function peer(command) {
  const at = await port();
  const jobs = process.env.JOBS ?? '10000';
  const process_ = spawn(command[0], command.slice(1), {
    env: { ...process.env, PORT: String(at), JOBS: jobs },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ready = await new Promise((resolve) => {
    createInterface(process_.stdout).once('line', resolve);
    process_.once('exit', () => resolve());
  });
  return ready ? { url: `http://127.0.0.1:${at}`, stop: () => process_.stdin.end() } : undefined;
}

async function signedIn(browser) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${ours}/login`);
  await page.getByLabel('Name').fill(process.env.SIGNALBOX_NAME);
  await page.getByLabel('Password').fill(process.env.SIGNALBOX_PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${ours}/`);
  const state = await context.storageState();
  await context.close();
  return state;
}

/** The bytes of the runs page and of all that it loads, as files in memory. */
async function floor(browser, state) {
  const files = new Map();
  const context = await browser.newContext({ storageState: state });
  const page = await context.newPage();
  page.on('response', async (answer) => {
    const { pathname } = new URL(answer.url());
    if (!pathname.startsWith('/live')) files.set(pathname, [answer.headers()['content-type'], await answer.body()]);
  });
  await page.goto(`${ours}/`, { waitUntil: 'load' });
  await page.waitForTimeout(500);
  await context.close();
  const server = createServer((asked, answer) => {
    const [type, body] = files.get(asked.url) ?? [];
    answer.writeHead(body ? 200 : 204, type ? { 'content-type': type } : {}).end(body);
  });
  const at = await port();
  await new Promise((resolve) => server.listen(at, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${at}`, files, stop: () => server.close() };
}

/** Notes when the first row has been painted, and how much moved. */
function watch(selector) {
  const look = () => {
    if (!document.querySelector(selector)) return;
    seeing.disconnect();
    requestAnimationFrame(() => setTimeout(() => { globalThis.rowsAt = performance.now(); }));
  };
  const seeing = new MutationObserver(look);
  seeing.observe(document, { childList: true, subtree: true });
  globalThis.moved = 0;
  new PerformanceObserver((list) => {
    for (const shift of list.getEntries()) globalThis.moved += shift.value;
  }).observe({ type: 'layout-shift', buffered: true });
}

async function paint(browser, { url, path, rows, state }) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, storageState: state });
  const page = await context.newPage();
  await page.addInitScript(watch, rows);
  await page.goto(url + path, { waitUntil: 'commit' });
  await page.waitForFunction(() => globalThis.rowsAt, null, { timeout: 60_000 });
  const seen = await page.evaluate(() => [globalThis.rowsAt, globalThis.moved]);
  await context.close();
  return seen;
}

if (loadavg()[0] > 2) {
  console.error(`the machine is busy (${loadavg()[0].toFixed(1)} processes want to run); not measured`);
  process.exit(1);
}
const browser = await chromium.launch({
  executablePath: process.env.SIGNALBOX_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const state = await signedIn(browser);
const still = await floor(browser, state);
const peers = {
  'rq-dashboard': [['venv/bin/python', 'rq_pages.py'], '/0/view/jobs/peers-pages/queued/8/asc/1', '#jobs tr[data-role=job]'],
  'bull-board': [['node', 'bull_board.mjs'], '/queue/peers-pages?status=waiting', 'a[href*="/queue/peers-pages/"]'],
  Flower: [['venv/bin/python', 'flower_tasks.py'], '/tasks', '#tasks-table tbody tr td a'],
};
const lists = [
  { name: 'the same bytes as static files', url: still.url, path: '/', rows: '.row', state: undefined, times: [] },
  { name: 'runs page', url: ours, path: '/', rows: '.row', state, times: [] },
];
for (const [name, [command, path, rows]] of Object.entries(peers)) {
  const served = await peer(command);
  if (served) lists.push({ name, url: served.url, path, rows, stop: served.stop, times: [] });
  else console.log(`${name}: not measured; it didn't start`);
}
for (let round = -1; round < rounds; round += 1) {
  for (const list of lists.filter((list) => !list.gone)) {
    try {
      const [ms, moved] = await paint(browser, list);
      if (round >= 0) list.times.push(ms);
      list.moved = Math.max(list.moved ?? 0, moved);
    } catch (error) {
      list.gone = String(error).split('\n')[0];
    }
  }
}
await browser.close();
still.stop();
const median = (times) => times.toSorted((a, b) => a - b)[times.length >> 1];
let failed = false;
for (const { name, times, moved, gone, stop } of lists) {
  stop?.();
  if (gone) console.log(`${name}: not measured: ${gone}`);
  else {
    const [least, most] = [Math.min(...times), Math.max(...times)];
    console.log(`${name.padEnd(44)} ${median(times).toFixed(0).padStart(6)} ms  (${least.toFixed(0)} to ${most.toFixed(0)}, ${times.length} rounds); layout shift ${moved.toFixed(3)}`);
  }
}
const [ground, page] = lists;
if (Math.max(...ground.times) > SPREAD_MAX * median(ground.times)) {
  console.log('the floor drifted; these figures say little');
  failed = true;
}
const bytes = (wanted) => [...still.files].filter(([path]) => wanted(path)).reduce((sum, [, [, body]]) => sum + gzipSync(body, { level: 9 }).length, 0);
console.log(`runs page : the same bytes                   ${(median(page.times) / median(ground.times)).toFixed(2)}   (goal: at most 1.15)`);
console.log(`HTML and CSS, compressed                     ${(bytes((path) => path === '/' || path.endsWith('.css')) / 1024).toFixed(1)} KiB   (goal: at most 14)`);
process.exit(failed ? 1 : 0);
