// Paints pages in Chromium, cold: from the address to rows that are painted, in ms, and how much moved meanwhile. A line of JSON asks
// and one answers: `{url, cookie, rows}` is painted; `{still: {url, cookie}}` serves the same bytes as files in memory, and tells
// how many its HTML and CSS are when compressed. Wants PLAYWRIGHT, the folder of that package.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { gzipSync } from 'node:zlib';

const { chromium } = createRequire(import.meta.url)(process.env.PLAYWRIGHT);
const browser = await chromium.launch({
  executablePath: process.env.SIGNALBOX_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});

/** A page in a context of its own, which knows nothing yet. */
async function opened({ url, cookie }, work) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  try {
    if (cookie) {
      const [name, value] = cookie.split(/=(.*)/s);
      await context.addCookies([{ name, value, url }]);
    }
    return await work(await context.newPage(), url);
  } finally {
    await context.close();
  }
}

/** The bytes of a page and of all that it loads. */
async function still(page, url) {
  const loads = [];
  page.on('response', (answer) => {
    const { pathname } = new URL(answer.url());
    if (pathname.startsWith('/live')) return;
    loads.push(answer.body().then((body) => [pathname, [answer.headers()['content-type'], body]]));
  });
  await page.goto(url, { waitUntil: 'load' });
  await page.waitForTimeout(500);
  const files = new Map(await Promise.all(loads));
  const server = createServer((asked, answer) => {
    const [type, body] = files.get(asked.url) ?? [];
    answer.writeHead(body ? 200 : 204, type ? { 'content-type': type } : {}).end(body);
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const first = [...files].filter(([path]) => path === '/' || path.endsWith('.css'));
  const bytes = first.reduce((sum, [, [, body]]) => sum + gzipSync(body, { level: 9 }).length, 0);
  return { url: `http://127.0.0.1:${server.address().port}/`, bytes };
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

async function paint(page, url, rows) {
  await page.addInitScript(watch, rows);
  await page.goto(url, { waitUntil: 'commit' });
  await page.waitForFunction(() => globalThis.rowsAt, null, { timeout: 60_000 });
  const [ms, moved] = await page.evaluate(() => [globalThis.rowsAt, globalThis.moved]);
  return { ms, moved };
}

console.log('ready:');
for await (const line of createInterface(process.stdin)) {
  const asked = JSON.parse(line);
  const answer = asked.still
    ? opened(asked.still, still)
    : opened(asked, (page, url) => paint(page, url, asked.rows));
  console.log(JSON.stringify(await answer.catch((error) => ({ error: String(error).split('\n')[0] }))));
}
await browser.close();
process.exit();
