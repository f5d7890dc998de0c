// Redis, Postgres and the server killed and frozen under open pages: what these say, when, and that they heal by themselves.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { processes, tell } from './site.mjs';

// It wants to know where the site is when it begins.
const { desk, facts, guarded, open, phone, poll, shoot, start, until, url } = await import('../browser.mjs');

/** What takes 2.5 s at most, on a machine that does much else. */
const SOON = 30_000;
/** The same of a page that says how old it is when it has heard nothing for 10 s. */
const SAID = 40_000;
/** The same of an answer that there is none, which takes 2 s at most. */
const ANSWERED = 10_000;

const idOf = (path) => path.split('/').pop();

/** The runs, and one that goes on until it is stopped, are open and live; somebody else acts. */
async function watched(title) {
  const [acting, list, run] = [await open(phone), await open(desk, { script: true }), await open(desk, { script: true })];
  const path = await start(acting.page, 'Go round.\nscenario: loop\npause_ms: 300', title);
  await list.page.goto(`${url}/`);
  await run.page.goto(`${url}${path}`);
  await until(list.page, `#run-${idOf(path)}[data-state=running]`);
  await until(run.page, '.talk > .ev:nth-of-type(3)');
  for (const { page } of [list, run]) {
    await page.evaluate(() => { window.wasNeverLoadedAgain = true; });
  }
  return {
    acts: acting.page,
    list: list.page,
    run: run.page,
    path,
    id: idOf(path),
    close: async () => {
      for (const { page, complaints, close } of [acting, list, run]) {
        if (page !== acting.page) assert.ok(await page.evaluate(() => window.wasNeverLoadedAgain), 'it healed in place');
        // That something doesn't answer is what a browser complains of here.
        assert.deepEqual(complaints.filter((it) => !/Failed to load resource|^503 /.test(it)), []);
        await close();
      }
    },
  };
}

const seqs = (page) => page.locator('.talk [id^=e]').evaluateAll((all) => all.map((it) => Number(it.id.slice(1))));

/** Stops a run and waits until every page says so; every event of it is on its page once, as on one that is loaded now. */
async function stopped({ acts, list, run, path, id }) {
  await acts.goto(`${url}${path}/terminate`);
  const lever = acts.getByRole('button', { name: 'Force stop' });
  if (await lever.count()) await lever.tap();
  await until(run, 'main[data-state=ended]', { timeout: SOON });
  await until(list, `#run-${id}[data-state=ended]`, { timeout: SOON });
  assert.equal(processes(id), 0);
  await acts.goto(`${url}${path}`);
  const [there, here] = [await facts(acts), await facts(run)];
  assert.deepEqual([here.state, here.outcome, here.confirmed], [there.state, there.outcome, there.confirmed]);
  const last = (await seqs(acts)).at(-1);
  await run.waitForFunction((last) => document.getElementById(`e${last}`), last);
  const all = await seqs(run);
  assert.deepEqual(all, all.map((_, n) => all[0] + n), 'no event is missing, none twice');
}

/** That these pages say how old they are, and that nothing on them grows older meanwhile. */
async function saysHowOld(...pages) {
  const strip = /^As of \d+ (s|min) ago\. No word from the server; it is asked again and again\.$/;
  for (const page of pages) {
    await page.locator('#late').waitFor({ timeout: SAID });
    assert.match((await page.locator('#late').innerText()).trim(), strip);
    const old = await page.locator('#late b').textContent();
    const ages = () => page.locator('time:is(.ago, .for, .span, .minutes)').allTextContents();
    const before = await ages();
    await page.waitForFunction((old) => document.querySelector('#late b').textContent !== old, old);
    assert.deepEqual(await ages(), before, 'what may be otherwise by now isn’t said to last');
    assert.match(await page.locator('#as-of').textContent(), /^\d+ (s|min) ago$/);
  }
}

/** That these pages are live again, by themselves. */
async function heals(t, ...pages) {
  const began = Date.now();
  for (const page of pages) {
    await page.locator('#late').waitFor({ state: 'hidden', timeout: SOON });
    assert.match(await page.locator('#as-of').textContent(), /^\d\d:\d\d:\d\d UTC$/);
  }
  t.diagnostic(`live again after ${Date.now() - began} ms`);
}

/** What a page without a database says, within its time. */
async function saysThatPostgresIsAway(t, page, began, how) {
  await page.locator('main[data-status="503"]').waitFor();
  const took = Date.now() - began;
  t.diagnostic(`${how} was answered after ${took} ms`);
  assert.ok(took < ANSWERED, `${how}: ${took} ms`);
  const said = await page.locator('main').innerText();
  for (const words of ['The database doesn\'t answer.', 'What you asked for may not have been done.',
    'Try again in a moment; asking twice does no harm.']) assert.ok(said.includes(words), `${how}: ${said}`);
}

for (const [how, fault, repair] of [['killed', 'kill', 'start'], ['frozen', 'freeze', 'thaw']]) {
  test(`Redis ${how}: pages stay live, and a stop reaches the process`, async (t) => {
    const all = await watched(`Under a Redis that is ${how}`);
    const { acts, list, run, id } = all;
    await tell(`${fault} redis`);
    let began = Date.now();
    const shown = (what) => t.diagnostic(`${what} was shown after ${Date.now() - began} ms`);
    const meanwhile = idOf(await start(acts, 'Say hello.\nscenario: answer', 'Started meanwhile'));
    await until(list, `#run-${meanwhile}`, { timeout: SOON });
    shown('a new run');
    const last = (await seqs(run)).at(-1);
    await run.waitForFunction((last) => document.getElementById(`e${last + 1}`), last, { timeout: SOON });
    await poll('health says so', async () => {
      await acts.goto(`${url}/health`);
      return (await acts.locator('main').innerText()).includes(
        'Redis doesn’t answer: a stop takes up to two seconds longer, and is lost never.');
    });
    await shoot(acts, `redis-${how}`);
    assert.ok(processes(id) > 0);
    began = Date.now();
    await stopped(all);
    shown('its end');
    assert.equal((await facts(run)).outcome, 'terminated');

    await tell(`${repair} redis`);
    await poll('all is well', async () => {
      await acts.goto(`${url}/health`);
      return (await acts.locator('main').innerText()).includes('All is well.');
    });
    const after = idOf(await start(acts, 'Say hello.\nscenario: answer', 'Started afterwards'));
    await until(list, `#run-${after}[data-outcome=succeeded]`);
    for (const page of [list, run]) assert.ok(await page.locator('#late').isHidden());
    await all.close();
  });

  test(`Postgres ${how}: pages say that they can’t know, and are live again when it is back`, async (t) => {
    const all = await watched(`Under a Postgres that is ${how}`);
    const { acts, list, run, path, id } = all;
    await acts.goto(`${url}${path}/terminate`);
    await tell(`${fault} postgres`);
    let began = Date.now();
    await acts.getByRole('button', { name: 'Force stop' }).tap();
    await saysThatPostgresIsAway(t, acts, began, 'a stop');
    assert.ok(processes(id) > 0, 'it was not done');
    await shoot(acts, `postgres-${how}`);
    began = Date.now();
    await acts.goto(`${url}/`);
    await saysThatPostgresIsAway(t, acts, began, 'a page');
    await saysHowOld(list, run);
    assert.equal((await facts(run)).outcome, '', 'nothing is claimed of it');
    await shoot(run, `postgres-${how}-run`);

    await tell(`${repair} postgres`);
    await heals(t, list, run);
    // What was pressed may have been done, and a worker that can't renew its leases stops its runs by itself.
    await stopped(all);
    assert.match((await facts(run)).outcome, /^(terminated|failed)$/);
    await all.close();
  });
}

test('The server killed: pages say that nothing is heard of it, and go on where they were when it is back', async (t) => {
  const all = await watched('Under a server that is killed');
  const { list, run, path } = all;
  const away = await open(phone, { script: true });
  await away.page.goto(`${url}/`);
  await guarded(away.page);
  await tell('kill serve');
  await away.page.goto(`${url}${path}`);
  await away.page.locator('[data-offline]').waitFor();
  assert.match(await away.page.locator('h1').innerText(), /can’t be reached/);
  assert.doesNotMatch(await away.page.content(), /Under a server/, 'nothing stale is shown');
  await saysHowOld(list, run);
  await shoot(run, 'server-killed-run');

  await tell('start serve');
  await heals(t, list, run);
  await until(away.page, `main[data-run="${all.id}"]`);
  await away.close();
  await stopped(all);
  assert.equal((await facts(run)).outcome, 'terminated');
  await all.close();
});
