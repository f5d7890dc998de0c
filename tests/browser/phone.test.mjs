// One thumb, no JavaScript: start a run, see it end, stop one for certain.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { facts, open, phone, shoot, start, until, url } from './browser.mjs';

test('a run is started and seen to its end', async () => {
  const { page, complaints, close } = await open(phone);
  await start(page, 'Say hello.\nscenario: answer', 'Say hello');
  await until(page, 'main[data-state=ended]');
  const run = await facts(page);
  assert.equal(run.outcome, 'succeeded');
  assert.equal(run.wish, 'run');
  assert.ok(Date.parse(run.confirmed), 'its end has evidence, with a time');
  assert.ok(Number(run.costUsd) >= 0 && run.costUsd !== '', 'it says what it cost');
  assert.ok(await page.locator('.talk .last.go').count(), 'its last word is in the transcript');
  await shoot(page, 'succeeded');
  assert.deepEqual(complaints, []);
  await close();
});

test('a run is stopped by a tap and a confirm, and a double tap is one wish', async () => {
  const { page, complaints, close } = await open(phone);
  const path = await start(page, 'Go round and round.\nscenario: loop', 'Go round and round');
  await until(page, 'main[data-state=running]');

  await page.goto(`${url}/`);
  const lever = page.locator(`.row[data-run="${path.split('/').pop()}"] .lever`);
  assert.match(await lever.getAttribute('aria-label'), /Stop Go round and round/);
  const at = await lever.boundingBox();
  await lever.tap();
  await page.waitForURL(`${url}${path}/terminate`);
  await page.touchscreen.tap(at.x + at.width / 2, at.y + at.height / 2);
  await page.goto(`${url}${path}`);
  assert.equal((await facts(page)).wish, 'run', 'a second tap where the lever was stops nothing');

  await page.locator('.runbar .lever').tap();
  await page.waitForURL(`${url}${path}/terminate`);
  await shoot(page, 'confirm');
  await page.getByText('It loops').tap();
  const button = await page.getByRole('button', { name: 'Stop gracefully' }).boundingBox();
  const [x, y] = [button.x + button.width / 2, button.y + button.height / 2];
  await Promise.all([page.touchscreen.tap(x, y), page.touchscreen.tap(x, y)]);
  await page.waitForURL(`${url}${path}`);
  assert.equal((await facts(page)).wish, 'stop');

  await until(page, 'main[data-outcome=terminated]');
  const run = await facts(page);
  assert.equal(run.state, 'ended');
  assert.ok(Date.parse(run.confirmed), 'the stop is proven, with a time');
  assert.equal(await page.locator('.receipt .done').count(), 3, 'wished, delivered, proven');
  assert.match(await page.locator('.receipt').innerText(), /It loops/);
  await shoot(page, 'terminated');

  await page.goto(`${url}/audit`);
  const wishes = page.locator('.log li').filter({ has: page.locator('b', { hasText: /^stop wished$/ }) })
    .filter({ has: page.locator(`a[href="${path}"]`) });
  assert.equal(await wishes.count(), 1, 'one wish in the audit');
  assert.deepEqual(complaints, []);
  await close();
});
