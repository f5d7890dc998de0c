// A tab that follows a run for long at fifty events a second doesn't grow. SIGNALBOX_TAB_SECONDS says for how long; each
// event is one that the server drew, told over and over by a stand-in for its stream.
import { createServer, request } from 'node:http';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { browser, desk, open, phone, start, stop, until, url } from './browser.mjs';

const SECONDS = Number(process.env.SIGNALBOX_TAB_SECONDS ?? 20);
const A_SECOND = 50;
const AT_ONCE = 5;
/** By then the page holds as many events as it ever does. */
const FULL_AFTER = 15;
const GROWTH_MAX_MB = 20;

/** The server, but for one run's stream. */
function standIn(path, entries) {
  let told = 0;
  const server = createServer((asked, answer) => {
    if (!asked.url.startsWith(`/live${path}`)) {
      const { host } = new URL(url);
      const on = request(url + asked.url, { method: asked.method, headers: { ...asked.headers, host } }, (got) => {
        answer.writeHead(got.statusCode, got.headers);
        got.pipe(answer);
      });
      asked.pipe(on);
      return;
    }
    answer.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    const telling = setInterval(() => {
      let events = '';
      for (let n = 0; n < AT_ONCE; n += 1) {
        told += 1;
        events += entries[told % entries.length].replace(/e\d+/g, `e${100_000 + told}`);
      }
      answer.write(`id: ${100_000 + told}-0\ndata: ${JSON.stringify({ at: Date.now(), events })}\n\n`);
    }, 1000 * AT_ONCE / A_SECOND);
    answer.on('close', () => clearInterval(telling));
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({
      url: `http://127.0.0.1:${server.address().port}`,
      told: () => told,
      close: () => {
        server.close();
        server.closeAllConnections();
      },
    }));
  });
}

/** What the page's own process holds, in MB, once its garbage is collected. */
async function weight(page) {
  const its = await page.context().newCDPSession(page);
  await its.send('HeapProfiler.collectGarbage');
  const all = await (await browser.newBrowserCDPSession()).send('SystemInfo.getProcessInfo');
  await its.detach();
  const held = (pid) => Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;
  return Math.max(...all.processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => held(id)));
}

test(`a tab that follows a run for ${SECONDS} s at ${A_SECOND} events a second doesn't grow`, async (t) => {
  const thumb = await open(phone);
  const path = await start(thumb.page, 'Wait.\nscenario: loop', 'Followed for long');
  await until(thumb.page, '.ev:nth-of-type(6)');
  const entries = await thumb.page.locator('#talk > .ev').evaluateAll((all) => all.map((it) => it.outerHTML));
  await thumb.close();

  const server = await standIn(path, entries);
  t.after(server.close);
  const { page, complaints, close } = await open(desk, { script: true });
  await page.goto(server.url + path);
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  /** Until events of so many seconds more are drawn; a busy machine takes longer. */
  const drawn = async (seconds) => {
    const last = 100_000 + server.told() + seconds * A_SECOND;
    const isDrawn = (last) => Number([...document.querySelectorAll('#talk > .ev')].at(-1)?.id.slice(1)) >= last;
    await page.waitForFunction(isDrawn, last, { timeout: 60_000 + 4000 * seconds, polling: 200 });
  };
  await drawn(FULL_AFTER);
  const [before, toldBefore] = [await weight(page), server.told()];
  await drawn(SECONDS);
  const [after, told] = [await weight(page), server.told() - toldBefore];
  const growth = after - before;
  console.log(`${told} events: ${before.toFixed(1)} MB, then ${after.toFixed(1)} MB`);
  assert.ok(growth < GROWTH_MAX_MB, `it grew by ${growth.toFixed(1)} MB`);
  assert.deepEqual(complaints, []);
  await close();

  await stop(path);
});
