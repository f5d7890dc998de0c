// The red handle by thumb: pulled, seen to be done, and left step by step; and many runs selected and stopped.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { desk, facts, open, phone, shoot, start, until, url } from './browser.mjs';

test('runs are selected and stopped by one click', async () => {
  const { page, complaints, close } = await open(phone);
  const paths = [];
  for (const title of ['Round and round', 'Up and down']) {
    paths.push(await start(page, `${title}.\nscenario: loop`, title));
  }
  await page.goto(`${url}/?pick=1`);
  for (const path of paths) {
    // The whole row is the target.
    await page.locator(`.row[data-run="${path.split('/').pop()}"]`).tap({ position: { x: 60, y: 20 } });
  }
  assert.equal(await page.locator('input:checked').count(), 2);
  await shoot(page, 'picked');
  await page.getByRole('button', { name: 'Stop selected…' }).tap();
  await page.waitForURL(/stops\/new/);
  assert.match(await page.locator('h1').innerText(), /Stop 2 runs\?/);
  await page.getByRole('button', { name: 'Force stop' }).tap();
  await page.waitForURL(/stops\/\d+$/);
  await until(page, 'main[data-unproven="0"][data-whole=true]');
  assert.match(await page.locator('h1').innerText(), /All 2 runs are proven over/);
  assert.deepEqual(complaints, []);
  await close();
});

test('the red handle is pulled by two taps, and left by two steps', async () => {
  const { page, complaints, close } = await open(phone);
  const run = await start(page, 'Go on for ever.\nscenario: loop', 'Go on for ever');
  await until(page, 'main[data-state=running]');
  const watching = await open(desk, { script: true });
  const sees = watching.page;
  await sees.goto(`${url}/handle/leave`);
  await sees.evaluate(() => { window.marked = true; });
  const heading = (words) => sees.locator('h1', { hasText: words }).waitFor();
  await heading('not pulled');
  const handle = page.locator('.handle');
  const at = await handle.boundingBox();
  assert.ok(at.y > 844 * 0.8, 'within reach of a thumb');
  await handle.tap();
  await page.waitForURL(`${url}/handle`);
  await page.touchscreen.tap(at.x + at.width / 2, at.y + at.height / 2);
  await page.waitForURL(`${url}/handle`);
  assert.equal(await page.locator('.strip.stands').count(), 0, 'a second tap there pulls nothing');
  await shoot(page, 'handle');

  await page.getByRole('button', { name: 'Pull the handle' }).tap();
  await page.waitForURL(/stops\/\d+$/);
  await until(page, 'main[data-unproven="0"][data-whole=true]');
  await until(page, '.receipt li.done:has-text("gates closed")');
  await shoot(page, 'pulled');
  await heading('Leave the red handle');
  await sees.getByText('Every run is proven over').waitFor();
  await sees.getByText(/^\S+: gates closed$/).waitFor();
  await page.goto(`${url}${run}`);
  assert.equal((await facts(page)).outcome, 'terminated');
  assert.match(await page.locator('.strip.stands').innerText(), /The red handle is pulled/);

  const waits = await start(page, 'Wait for it.\nscenario: answer', 'Wait for it');
  assert.match(await page.locator('.said').first().innerText(), /The queue is held by/);
  await page.getByRole('link', { name: 'Leave it…' }).tap();
  await page.waitForURL(`${url}/handle/leave`);
  await shoot(page, 'leave');
  await sees.getByText('One run waits, and starts.').waitFor();
  await shoot(sees, 'leave-1440');
  await page.getByRole('button', { name: 'Open gates again' }).tap();
  await sees.getByRole('button', { name: 'Release the queue' }).waitFor();
  await page.getByRole('button', { name: 'Release the queue' }).tap();
  await page.locator('h1', { hasText: 'not pulled' }).waitFor();
  await heading('not pulled');
  assert.ok(await sees.evaluate(() => window.marked), 'who watches has seen each step, without loading it again');
  assert.deepEqual(watching.complaints, []);
  await watching.close();
  await page.goto(`${url}${waits}`);
  await until(page, 'main[data-outcome=succeeded]');
  assert.deepEqual(complaints, []);
  await close();
});
