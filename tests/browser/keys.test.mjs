// For those at a desk: keys, and times in their own zone.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { desk, open, phone, poll, shoot, start, until, url } from './browser.mjs';

const focused = (page) => page.evaluate(() => document.activeElement?.closest('.row, .ev')?.id);

test('keys walk through the runs, open, select and stop them', async () => {
  const thumb = await open(phone);
  const older = await start(thumb.page, 'Wait.\nscenario: loop', 'The older of two');
  const newer = await start(thumb.page, 'Wait.\nscenario: loop', 'The newer of two');
  const id = (path) => path.split('/').pop();
  await thumb.close();

  const { page, complaints, close } = await open(desk, { script: true });
  await page.goto(`${url}/?state=running`);
  await until(page, `#run-${id(older)}`);
  await until(page, `#run-${id(newer)}`);
  await page.keyboard.press('j');
  assert.equal(await focused(page), `run-${id(newer)}`);
  await page.keyboard.press('j');
  assert.equal(await focused(page), `run-${id(older)}`);
  await page.keyboard.press('k');
  assert.equal(await focused(page), `run-${id(newer)}`);
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await page.waitForURL(url + older);
  await page.keyboard.press('t');
  await page.waitForURL(`${url}${older}/terminate`);
  await page.getByPlaceholder('or in your own words').focus();
  await page.keyboard.type('jt?x/');
  assert.equal(await page.getByPlaceholder('or in your own words').inputValue(), 'jt?x/', 'who writes is left alone');

  await page.goto(`${url}/?state=running`);
  await page.keyboard.press('j');
  await page.keyboard.press('x');
  await page.waitForURL(/pick=1/);
  assert.ok(await page.locator(`#pick-${id(newer)}`).isChecked(), 'the one that was chosen is selected');
  await page.keyboard.press('j');
  await page.keyboard.press('x');
  assert.ok(await page.locator(`#pick-${id(older)}`).isChecked());
  await page.getByRole('button', { name: 'Stop selected…' }).click();
  await page.getByRole('button', { name: 'Force stop' }).click();
  await page.waitForURL(/stops\/\d+/);
  await until(page, 'main[data-unproven="0"][data-whole=true]');
  assert.deepEqual(complaints, []);
  await close();
});

test('a sheet says the keys, and they can be turned off', async () => {
  const { page, complaints, close } = await open(desk, { script: true });
  await page.goto(`${url}/health`);
  await page.keyboard.press('?');
  const sheet = page.locator('dialog.sheet');
  assert.ok(await sheet.isVisible());
  await shoot(page, 'keys-1440-light');
  await sheet.getByRole('checkbox').uncheck();
  await page.keyboard.press('Escape');
  assert.ok(!(await sheet.isVisible()));
  await page.keyboard.press('?');
  assert.ok(!(await sheet.isVisible()), 'they are off');
  await page.goto(`${url}/account`);
  await page.getByRole('button', { name: 'Keys…' }).click();
  await page.locator('dialog.sheet').getByRole('checkbox').check();
  await page.getByRole('button', { name: 'Close' }).click();
  await page.keyboard.press('?');
  assert.ok(await page.locator('dialog.sheet').isVisible(), 'they are on again');
  assert.deepEqual(complaints, []);
  await close();
});

/** Every time that the page writes, and whether it is what a clock in that zone shows. */
const wrong = (page, zone) => page.evaluate((zone) => {
  const clock = new Intl.DateTimeFormat('en-GB', { timeZone: zone, hour: '2-digit', minute: '2-digit', second: '2-digit' });
  return [...document.querySelectorAll('time[datetime]')]
    .filter((time) => /\d\d:\d\d:\d\d/.test(time.textContent))
    .filter((time) => !time.textContent.includes(clock.format(new Date(time.dateTime))))
    .map((time) => time.outerHTML);
}, zone);

test('times are in the zone of whoever reads them, and stay so while the page lives', async () => {
  const { page, complaints, close } = await open(desk, { script: true, zone: 'Asia/Kolkata' });
  await page.goto(`${url}/runs/new`);
  await page.getByLabel('Prompt').fill('Wait.\nscenario: loop');
  await page.getByRole('button', { name: 'Start the run' }).click();
  await page.waitForURL(/\/runs\/\d+$/);
  await until(page, '.ev');
  await until(page, '.ev:nth-of-type(4)');
  assert.deepEqual(await wrong(page, 'Asia/Kolkata'), []);
  await page.locator('#as-of', { hasText: /GMT\+5:30$/ }).waitFor();
  await page.locator('.runbar .lever').click();
  await page.getByRole('button', { name: 'Force stop' }).click();
  await until(page, 'main[data-outcome=terminated]');
  assert.deepEqual(await wrong(page, 'Asia/Kolkata'), []);
  assert.match(await page.locator('#receipt h2').textContent(), /GMT\+5:30/);
  const ago = page.locator('.under time.ago');
  // For a few seconds.
  await poll('pressed, it says the exact time', async () => {
    await ago.click();
    return /\d\d:\d\d:\d\d GMT\+5:30/.test(await ago.textContent());
  });
  await page.goto(`${url}/audit`);
  assert.match(await page.locator('main').textContent(), /Times are GMT\+5:30/);
  assert.deepEqual(await wrong(page, 'Asia/Kolkata'), []);
  assert.deepEqual(complaints, []);
  await close();
});

test('without JavaScript they are in UTC, and say so', async () => {
  const { page, close } = await open(phone, { zone: 'Asia/Kolkata' });
  await page.goto(`${url}/audit`);
  assert.match(await page.locator('main').textContent(), /Times are UTC/);
  assert.deepEqual(await wrong(page, 'UTC'), []);
  await close();
});

test('a row says an exact time when its rough one is pressed, or by a key, and leads to its run all around it', async () => {
  const { page, complaints, close } = await open(phone, { script: true, zone: 'Asia/Kolkata' });
  const path = await start(page, 'Say hello.', 'One with a time');
  await until(page, 'main[data-state=ended]', { timeout: 120_000 });
  await page.goto(`${url}/?state=ended`);
  const row = page.locator(`#run-${path.split('/').pop()}`);
  const time = row.locator('time.ago').first();
  const exact = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d GMT\+5:30$/;
  assert.match(await time.textContent(), /ago|just now/);
  await time.tap();
  assert.match(await time.textContent(), exact);
  assert.equal(page.url(), `${url}/?state=ended`, 'the time was pressed, not the row');
  await page.reload();
  assert.match(await time.textContent(), /ago|just now/);
  await row.locator('a.title').focus();
  await page.keyboard.press('e');
  assert.match(await time.textContent(), exact);
  await row.tap({ position: { x: 6, y: 6 } });
  await page.waitForURL(url + path);
  assert.deepEqual(complaints, []);
  await close();
});
