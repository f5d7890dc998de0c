// A long transcript: it opens at its tail, goes back as one scrolls up, and stays where it is being read.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { desk, open, phone, shoot, start, until, url } from './browser.mjs';

const STEPS = 45;

let long;

/** The path of a run with more events than a page shows, which has ended. */
async function longRun() {
  if (long) return long;
  const { page, close } = await open(phone);
  long = await start(page, `Go round.\nscenario: loop\nsteps: ${STEPS}\npause_ms: 1`, 'A long one');
  await until(page, 'main[data-state=ended]', { timeout: 240_000 });
  await close();
  return long;
}

/** The numbers of the events that are there, in their order. */
const seqs = (page) => page.locator('.talk [id^=e]').evaluateAll((all) => all.map((it) => Number(it.id.slice(1))));

function assertWhole(all) {
  assert.deepEqual(all, all.map((_, n) => all[0] + n), 'no event is missing, none twice');
}

/** Where an event stands in the window. */
const top = (page, seq) => page.locator(`#e${seq}`).evaluate((it) => it.getBoundingClientRect().top);

for (const [device, name] of [[phone, 'phone'], [desk, 'desk']]) {
  test(`older events come as one scrolls up, and what is read stays where it is (${name})`, { timeout: 300_000 }, async () => {
    const path = await longRun();
    const { page, complaints, close } = await open(device, { script: true });
    await page.goto(`${url}${path}`);
    const before = await seqs(page);
    assert.equal(before.length, 100);
    const [first] = before;
    await page.locator(`#e${first + 2}`).evaluate((it) => it.scrollIntoView({ block: 'start' }));
    // Two movements, each of which is seen.
    for (const by of [1500, -1400]) {
      await page.evaluate((by) => new Promise((done) => {
        addEventListener('scroll', () => requestAnimationFrame(done), { once: true });
        scrollBy(0, by);
      }), by);
    }
    await page.waitForFunction((first) => document.getElementById(`e${first - 1}`), first);
    const all = await seqs(page);
    assertWhole(all);
    assert.ok(all[0] < first && all.at(-1) === before.at(-1));

    // By its link, in place.
    await page.goto(`${url}${path}?after=1`);
    await page.evaluate(() => { window.marked = true; });
    const end = (await seqs(page)).at(-1);
    const was = await top(page, end);
    await page.locator('#newer a').evaluate((it) => it.click());
    await page.waitForFunction((end) => document.getElementById(`e${end + 1}`), end);
    assert.ok(Math.abs(await top(page, end) - was) < 2, 'nothing has jumped');
    assertWhole(await seqs(page));
    assert.ok(await page.evaluate(() => window.marked), 'it was not loaded again');
    await shoot(page, `transcript-${name}`);
    assert.deepEqual(complaints, []);
    await close();
  });
}

test('without JavaScript older and newer events are links', async () => {
  const path = await longRun();
  const { page, close } = await open(phone);
  await page.goto(`${url}${path}`);
  const [first] = await seqs(page);
  await page.getByRole('link', { name: 'Older events' }).click();
  assert.equal((await seqs(page)).at(-1), first - 1);
  await page.getByRole('link', { name: 'Newer events' }).click();
  assert.equal((await seqs(page))[0], first);
  await close();
});

test('a permalink opens with its event in sight and marked', async () => {
  const path = await longRun();
  for (const script of [true, false]) {
    const { page, complaints, close } = await open(phone, { script });
    await page.goto(`${url}${path}`);
    const href = await page.locator('#e60 > .at').getAttribute('href');
    await page.goto(`${url}${href}`);
    const at = await top(page, 60);
    assert.ok(at > 40 && at < 700, `${at}`);
    assert.equal(await page.locator('.marked').count(), 1);
    assert.equal(await page.locator('.marked').getAttribute('id'), 'e60');
    assert.deepEqual(complaints, []);
    await close();
  }
});

test('what was said is searched, and what is found is gone to', async () => {
  const path = await longRun();
  const { page, complaints, close } = await open(phone, { script: true });
  await page.goto(`${url}${path}`);
  await page.getByLabel('Search in this run').fill('STEP 40 OF');
  await page.getByLabel('Search in this run').press('Enter');
  await page.waitForURL(/\/find\?q=/);
  const looked = await page.locator('#looked').textContent();
  assert.match(looked, /^(One|\d+) found in events \d+ to \d+ of \d+\./i);
  await page.getByLabel('In').selectOption('calls');
  await page.getByLabel('Words').fill('');
  await page.getByRole('button', { name: 'Search' }).tap();
  await page.waitForURL(/[?&]what=calls/);
  await page.locator('.hits a').nth(3).tap();
  await page.waitForURL(/\?at=\d+#e\d+$/);
  const at = new URL(page.url()).searchParams.get('at');
  assert.equal(await page.locator('.marked').getAttribute('id'), `e${at}`);
  assert.deepEqual(complaints, []);
  await close();
});

test('who reads something older is told what is new, and stays there', { timeout: 240_000 }, async () => {
  const acting = await open(phone);
  const path = await start(acting.page, 'Go round.\nscenario: loop', 'Read from above');
  const { page, complaints, close } = await open(phone, { script: true });
  await page.goto(`${url}${path}`);
  await page.waitForFunction(() => document.documentElement.scrollHeight > innerHeight + 500);
  await page.evaluate(() => scrollTo(0, 200));
  await page.locator('#pill:not([hidden])').waitFor();
  assert.match(await page.locator('#pill').textContent(), /^\d+ new below/);
  assert.equal(await page.evaluate(() => scrollY), 200);
  await page.locator('#pill').tap();
  await page.locator('#pill').waitFor({ state: 'hidden' });
  const below = await page.evaluate(() => document.documentElement.scrollHeight - scrollY - innerHeight);
  assert.ok(below < 80, `${below}`);
  await acting.page.goto(`${url}${path}/terminate`);
  await acting.page.getByRole('button', { name: 'Force stop' }).tap();
  await until(page, 'main[data-outcome=terminated]');
  assert.deepEqual(complaints, []);
  await acting.close();
  await close();
});
