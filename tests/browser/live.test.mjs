// Pages with their script: what changes is seen without reloading, and what a person is doing stays as it is.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { desk, facts, line, open, phone, shoot, start, until, url } from './browser.mjs';

/** Two pages of one person: one acts, the other one watches. */
async function both(path, device = desk) {
  const acting = await open(phone);
  const watching = await open(device, { script: true });
  if (path) await watching.page.goto(`${url}${path}`);
  const close = async () => {
    assert.deepEqual(acting.complaints, []);
    assert.deepEqual(watching.complaints, []);
    await acting.close();
    await watching.close();
  };
  return { acts: acting.page, sees: watching.page, close };
}

/** Marks the page, so that a reload would show. */
const mark = (page) => page.evaluate(() => { window.marked = true; });
const isMarked = (page) => page.evaluate(() => window.marked === true);

async function stop(page, path) {
  await page.goto(`${url}${path}/terminate`);
  await page.getByRole('button', { name: 'Force stop' }).tap();
  await page.waitForURL(`${url}${path}`);
}

test('the list shows what starts and what ends, without a reload', async () => {
  const { acts, sees, close } = await both('/');
  await mark(sees);
  const path = await start(acts, 'Go round.\nscenario: loop', 'Seen from afar');
  const row = `#run-${path.split('/').pop()}`;
  await until(sees, `${row}[data-state=running]`);
  assert.equal(await sees.locator('#living .row').first().getAttribute('id'), row.slice(1), 'the newest stands on top');
  await sees.locator(`${row} .lever`).focus();
  await start(acts, 'Say hello.\nscenario: answer', 'Another one');
  await sees.locator('.row', { hasText: 'Another one' }).waitFor();
  assert.equal(await sees.evaluate(() => document.activeElement?.closest('.row')?.id), row.slice(1), 'the focus stays');
  await stop(acts, path);
  await until(sees, `${row}[data-outcome=terminated]`);
  assert.ok(await isMarked(sees), 'it was not loaded again');
  await shoot(sees, 'live-list');
  await close();
});

test('what is ticked stays ticked', async () => {
  const { acts, sees, close } = await both();
  const path = await start(acts, 'Go round.\nscenario: loop', 'Ticked');
  await sees.goto(`${url}/?pick=1&state=running`);
  const row = `#run-${path.split('/').pop()}`;
  await sees.locator(`${row} input`).check();
  const other = await start(acts, 'Go round.\nscenario: loop', 'Not ticked');
  await until(sees, `#run-${other.split('/').pop()} input`);
  assert.deepEqual(await sees.locator('input:checked').evaluateAll((all) => all.map((it) => it.value)), [path.split('/').pop()]);
  await stop(acts, path);
  await stop(acts, other);
  await sees.locator(row).waitFor({ state: 'detached' });
  await close();
});

test('a run is followed to its end, and what is open or selected stays so', async () => {
  const { acts, sees, close } = await both();
  const path = await start(acts, 'Go round.\nscenario: loop', 'Followed');
  await sees.goto(`${url}${path}`);
  await mark(sees);
  await until(sees, 'main[data-state=running]');
  const fold = sees.locator('.talk details.fold').first();
  await fold.waitFor();
  await fold.locator('summary').click();
  await sees.locator('h1').evaluate((h1) => getSelection().selectAllChildren(h1));
  const events = () => sees.locator('.talk > .ev').count();
  const before = await events();
  await sees.waitForFunction((n) => document.querySelectorAll('.talk > .ev').length > n + 3, before);
  assert.ok(await fold.evaluate((it) => it.open), 'the fold stays open');
  assert.equal(await sees.evaluate(() => String(getSelection())), 'Followed', 'the selection stays');
  assert.equal(await sees.evaluate(() => scrollY), 0, 'who reads the top stays there');
  const ids = await sees.locator('.talk [id^=e]').evaluateAll((all) => all.map((it) => Number(it.id.slice(1))));
  assert.deepEqual(ids, ids.map((_, n) => ids[0] + n), 'no event is missing, none twice');

  await sees.waitForFunction(() => document.documentElement.scrollHeight > innerHeight + 300);
  await sees.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  const seen = await events();
  await sees.waitForFunction((n) => document.querySelectorAll('.talk > .ev').length > n + 3, seen);
  const below = () => sees.evaluate(() => document.documentElement.scrollHeight - scrollY - innerHeight);
  assert.ok(await below() < 80, 'who reads the end stays at the end');

  await stop(acts, path);
  await until(sees, 'main[data-outcome=terminated]');
  assert.match(await sees.title(), /^Terminated: Followed/);
  assert.match(await sees.locator('#said').textContent(), /Terminated: Followed/);
  assert.ok(await isMarked(sees) && await fold.evaluate((it) => it.open));
  assert.equal(await sees.locator('.receipt li.done').count(), 3);
  await sees.locator('.receipt .help summary').click();
  assert.ok((await facts(sees)).confirmed);
  await close();
});

test('a form that is open on a page that changes stays open, filled in and in focus', async () => {
  const { sees, close } = await both('/workers');
  await sees.locator('summary', { hasText: 'Drain…' }).click();
  await sees.getByLabel('Why?').fill('because');
  const at = () => sees.locator('#as-of').getAttribute('datetime');
  // The heartbeat of the worker is told twice at least.
  for (const before of [await at(), await at()]) {
    await sees.waitForFunction((before) => Date.parse(document.getElementById('as-of').dateTime) > Date.parse(before) + 6000, before);
  }
  assert.ok(await sees.locator('details').first().evaluate((it) => it.open));
  assert.equal(await sees.getByLabel('Why?').inputValue(), 'because');
  assert.equal(await sees.evaluate(() => document.activeElement.name), 'reason');
  await close();
});

test('ages grow by themselves', async () => {
  const { acts, sees, close } = await both();
  const path = await start(acts, 'Go round.\nscenario: loop', 'Older and older');
  await sees.goto(`${url}${path}`);
  await until(sees, 'main[data-state=running]');
  const lasted = () => sees.locator('time.span').first().textContent();
  const one = await lasted();
  await sees.waitForFunction((one) => document.querySelector('time.span').textContent !== one, one);
  await stop(acts, path);
  await close();
});

test('a lost link is said, and heals by itself', async () => {
  const link = await line();
  const { page, close } = await open(desk, { script: true, proxy: { server: link.server, bypass: '<-loopback>' } });
  await page.goto(`${url}/`);
  await until(page, '#late[hidden]', { state: 'attached' });
  await mark(page);
  link.cut();
  await page.locator('#late').waitFor();
  assert.match(await page.locator('#late').innerText(), /As of \d\d s ago/);
  assert.match(await page.locator('#as-of').textContent(), /^\d\d s ago/);
  await shoot(page, 'live-late');
  link.mend();
  await page.locator('#late').waitFor({ state: 'hidden' });
  assert.match(await page.locator('#as-of').textContent(), /UTC/);
  assert.ok(await isMarked(page));
  await close();
  await link.end();
});

test('a page that one comes back to is live again', async () => {
  const { acts, sees, close } = await both('/');
  await sees.goto(`${url}/agents`);
  await sees.goBack();
  const path = await start(acts, 'Say hello.\nscenario: answer', 'After coming back');
  await until(sees, `#run-${path.split('/').pop()}[data-state=ended]`);
  await close();
});

test('whoever signs out elsewhere sees the door', async () => {
  const { page, close } = await open(desk, { script: true, fresh: true });
  await page.goto(`${url}/`);
  const cookies = await page.context().cookies();
  await page.evaluate(() => { window.marked = true; });
  const answer = await page.context().request.post(`${url}/logout`, { headers: { origin: url }, maxRedirects: 0 });
  assert.equal(answer.status(), 303);
  assert.ok(cookies.length > 0);
  await page.waitForURL(`${url}/login`);
  await close();
});
