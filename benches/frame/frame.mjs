// From the moment that an agent says something until a frame shows it, in Chromium: a run's page, and as a floor a page to which
// the same is pushed straight. Prints what it measured, in ms: `ours 31.2`, `floor 5.1`. Wants SIGNALBOX_URL, COOKIE, RUN (its
// path), EVENTS, and PLAYWRIGHT, the folder of that package.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const { chromium } = createRequire(import.meta.url)(process.env.PLAYWRIGHT);
const ours = process.env.SIGNALBOX_URL.replace(/\/$/, '');
const events = Number(process.env.EVENTS);

/** Notes for each time that is said how long ago it was when a frame shows it. */
function watch() {
  globalThis.painted = [];
  const seen = new Set();
  const look = (changes) => {
    const found = [];
    for (const { addedNodes, target } of changes) {
      for (const node of addedNodes.length ? addedNodes : [target]) {
        for (const [, n, at] of (node.textContent ?? '').matchAll(/tick (\d+) at (\d+\.\d+)/g)) {
          if (!seen.has(n)) found.push(Number(at) * 1000);
          seen.add(n);
        }
      }
    }
    if (found.length === 0) return;
    requestAnimationFrame(() => setTimeout(() => {
      const now = performance.timeOrigin + performance.now();
      globalThis.painted.push(...found.map((at) => now - at));
    }));
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true, characterData: true });
}

const FLOOR = `<!doctype html><title>Floor</title><ol id="said"></ol><script>
  new EventSource('/live').onmessage = ({ data }) => {
    const said = document.createElement('li');
    said.textContent = data;
    document.getElementById('said').append(said);
  };
</script>`;

/** A server that says the time, as the agent does, to whoever watches. */
async function floor() {
  let n = 0;
  const server = createServer((asked, answer) => {
    if (asked.url !== '/live') {
      answer.writeHead(200, { 'content-type': 'text/html' }).end(FLOOR);
      return;
    }
    answer.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    const say = () => {
      n += 1;
      const now = performance.timeOrigin + performance.now();
      answer.write(`data: tick ${n} at ${(now / 1000).toFixed(6)}\n\n`);
      again = setTimeout(say, 100 + Math.random() * 200);
    };
    let again = setTimeout(say, 500);
    asked.on('close', () => clearTimeout(again));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

/** Watches a page until it has shown so many events. */
async function measure(browser, url, events, cookies = []) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  await context.addCookies(cookies);
  const page = await context.newPage();
  await page.addInitScript(watch);
  await page.goto(url, { waitUntil: 'load' });
  // What was there when the page was opened doesn't count.
  await page.waitForTimeout(1000);
  await page.evaluate(() => { globalThis.painted = []; });
  await page.waitForFunction((events) => globalThis.painted.length >= events, events, { timeout: 180_000 });
  const painted = await page.evaluate(() => globalThis.painted);
  await context.close();
  return painted;
}

const browser = await chromium.launch({
  executablePath: process.env.SIGNALBOX_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const server = await floor();
const ground = `http://127.0.0.1:${server.address().port}/`;
const { COOKIE } = process.env;
const cookie = { name: COOKIE.slice(0, COOKIE.indexOf('=')), value: COOKIE.slice(COOKIE.indexOf('=') + 1), url: ours };
const half = Math.ceil(events / 2);
for (const part of [0, 1]) {
  for (const ms of await measure(browser, ground, half)) console.log(`floor ${ms}`);
  for (const ms of await measure(browser, ours + process.env.RUN, half, [cookie])) console.log(`ours ${ms}`);
  if (part === 1) for (const ms of await measure(browser, ground, half)) console.log(`floor ${ms}`);
}
await browser.close();
server.closeAllConnections();
server.close();
