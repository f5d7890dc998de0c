// Every page, light and dark, on a phone and on a desk: nothing spills over, nothing complains, nothing is too small.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { desk, open, overflow, pages, phone, shoot, start, stop, until, url } from './browser.mjs';

const long = `Look after ${'everything'.repeat(18)}`;
const { page, close } = await open(phone);
const run = await start(page, `scenario: tool\n${'wide'.repeat(300)}`, long);
await until(page, 'main[data-state=ended]');
const living = await start(page, 'Go round.\nscenario: loop', 'It goes on');
await until(page, 'main[data-state=running]');
await close();

for (const [device, where] of [[phone, 390], [desk, 1440]]) {
  for (const scheme of ['light', 'dark']) {
    test(`pages at ${where} pixels, ${scheme}`, async () => {
      const { page, complaints, close } = await open(device, { scheme });
      for (const path of [...pages(run), living, `${living}/terminate`]) {
        const answer = await page.goto(url + path);
        assert.equal(answer.status(), 200, path);
        assert.equal(await overflow(page), 0, `${path} is too wide`);
        assert.deepEqual(await tooSmall(page), [], `${path} has targets smaller than a thumb`);
        await shoot(page, `${path.startsWith(living) ? 'living-' : ''}${name(path)}-${where}-${scheme}`);
      }
      assert.deepEqual(complaints, []);
      await close();
    });
    test(`the door at ${where} pixels, ${scheme}`, async () => {
      const { page, complaints, close } = await open(device, { scheme, stranger: true });
      await page.goto(`${url}${run}`);
      assert.equal(new URL(page.url()).pathname, '/login');
      assert.equal(await overflow(page), 0);
      assert.doesNotMatch(await page.content(), /claude|worker|agent|run/i, 'the door says nothing of the fleet');
      await shoot(page, `login-${where}-${scheme}`);
      assert.deepEqual(complaints, []);
      await close();
    });
  }
}

test('with letters twice as large nothing is wider than the screen, and the handle stays in sight', async () => {
  const { page, close } = await open(phone);
  for (const path of [...pages(run), living, `${living}/terminate`]) {
    await page.goto(url + path);
    await page.evaluate(() => { document.documentElement.style.fontSize = '200%'; });
    assert.equal(await overflow(page), 0, `${path} is too wide`);
    const handle = await page.locator('.handle').boundingBox();
    assert.ok(handle.x + handle.width <= 390.5 && handle.y + handle.height <= 844.5, `${path} hides the handle: ${JSON.stringify(handle)}`);
  }
  await shoot(page, 'twice-as-large');
  await close();
});

test('what was looked at is stopped', () => stop(living));

const name = (path) => path === '/' ? 'runs' : path.replace(/\d+/, 'id').replace(/\W+/g, '-').replace(/^-/, '');

/** What is pressed and is lower than 44 pixels; links within a sentence are as high as its lines. */
const tooSmall = (page) => page.evaluate(() =>
  [...document.querySelectorAll('button, input:not([type=hidden], [type=radio], [type=checkbox]), select, textarea, .button, .lever, .chip, .check, .needs a, .tabs a, .handle, .strip a, .tick, .fold > summary, .holds a')]
    .filter((it) => it.getBoundingClientRect().height > 0 && it.getBoundingClientRect().height < 44)
    .map((it) => it.outerHTML.slice(0, 120)));
