// Every page by the rules of WCAG 2.2 A and AA, as far as a machine can tell: nothing serious, light and dark, with more contrast.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { desk, open, pages, phone, start, stop, until, url } from './browser.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe finds serious or worse. */
async function findings(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'],
  }));
  return violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))
    .map(({ id, nodes }) => [id, nodes.slice(0, 3).map(({ html }) => html.slice(0, 160))]);
}

const { page, close } = await open(phone);
const run = await start(page, 'scenario: tool', 'Look at it');
await until(page, 'main[data-state=ended]');
const living = await start(page, 'Go round.\nscenario: loop', 'It goes on');
await until(page, 'main[data-state=running]');
await close();

for (const [device, where] of [[phone, 390], [desk, 1440]]) {
  for (const [scheme, contrast] of [['light'], ['dark'], ['light', 'more']]) {
    test(`at ${where} pixels, ${scheme}${contrast ? ', more contrast' : ''}`, async () => {
      const { page, close } = await open(device, { scheme, script: true, unbound: true });
      await page.emulateMedia({ colorScheme: scheme, contrast: contrast ?? 'no-preference', reducedMotion: 'reduce' });
      for (const path of [...pages(run), `${living}/terminate`, '/no/such/page']) {
        await page.goto(url + path);
        assert.deepEqual(await findings(page), [], path);
      }
      await close();
    });
  }
}

test('what was looked at is stopped', () => stop(living));

test('the door', async () => {
  const { page, close } = await open(phone, { script: true, stranger: true, unbound: true });
  await page.goto(`${url}/login`);
  assert.deepEqual(await findings(page), []);
  await close();
});
