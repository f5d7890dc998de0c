// What the tests share: one browser, one sign-in, and pages that fail the test when they complain.
import { mkdirSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { after } from 'node:test';
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

export const url = process.env.SIGNALBOX_URL.replace(/\/$/, '');
const name = process.env.SIGNALBOX_NAME;
const password = process.env.SIGNALBOX_PASSWORD;
const shots = process.env.SIGNALBOX_SHOTS;
if (shots) mkdirSync(shots, { recursive: true });

/** A phone in a hand, and a desk. */
export const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
export const desk = { viewport: { width: 1440, height: 900 } };

export const browser = await chromium.launch({
  executablePath: process.env.SIGNALBOX_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
after(() => browser.close());

/** How long anything may take, in ms, on a machine that does much else. */
const PATIENCE = 60_000;

/** A busy server lets nobody into a stream that it can't draw at once; the page comes again by itself. */
const comesAgain = (address) => address.startsWith(`${url}/live/`);

let signedIn;

/** Every page that there is, given a run. */
export const pages = (run) => ['/', '/?state=failed', '/?q=wide&agent=claude-code', '/?pick=1', '/?pick=1&last=day', '/stops',
  '/stops/new?state=all', '/handle', '/handle/leave', '/hold', run, `${run}?at=2`, `${run}/find?q=e`, `${run}/again`,
  `${run}/terminate`, '/runs/new', '/workers', '/found', '/agents', '/agents/claude-code/ladder',
  '/agents/claude-code/patience', '/health', '/kept', '/audit', '/account', '/account/bells', '/account/bells/rings'];

/** A page without JavaScript, unless it is wanted; `complaints` gathers what the console and the network have to say. `unbound`
    lets a test put scripts of its own into it. */
export async function open(device, { scheme = 'light', stranger = false, script = false, fresh = false, proxy, permissions, zone, unbound = false } = {}) {
  if (!stranger) signedIn ??= await signIn();
  const session = fresh ? await signIn() : signedIn;
  const context = await browser.newContext({
    ...device,
    colorScheme: scheme,
    javaScriptEnabled: script,
    proxy,
    timezoneId: zone,
    bypassCSP: unbound,
    permissions,
    storageState: stranger ? undefined : session,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const complaints = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !comesAgain(message.location().url)) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('response', (response) => {
    if (response.status() >= 500 && !comesAgain(response.url())) complaints.push(`${response.status()} ${response.url()}`);
  });
  return { page, complaints, close: () => context.close() };
}

async function signIn() {
  const { page, complaints } = await open(phone, { stranger: true });
  await page.goto(`${url}/`);
  assert.equal(new URL(page.url()).pathname, '/login', 'a stranger is sent to the door');
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).tap();
  await page.waitForURL(`${url}/`);
  // The first page of all may come too late, where much else has just begun.
  await poll('the runs', async () => (await page.goto(`${url}/`)).ok());
  assert.deepEqual(complaints.filter((it) => !it.includes('503')), []);
  const state = await page.context().storageState();
  await page.context().close();
  return state;
}

/** Starts a run through the form, by thumb, and gives its path. */
export async function start(page, prompt, title) {
  await page.goto(`${url}/`);
  await page.getByRole('link', { name: 'New run' }).tap();
  await page.getByLabel('Prompt').fill(prompt);
  await page.getByLabel('Title').fill(title);
  await page.getByRole('button', { name: 'Start the run' }).tap();
  await page.waitForURL(/\/runs\/\d+$/);
  return new URL(page.url()).pathname;
}

/** Stops a run through the form, and waits for its end. */
export async function stop(path) {
  const { page, close } = await open(phone);
  await page.goto(`${url}${path}/terminate`);
  const lever = page.getByRole('button', { name: 'Force stop' });
  // It may have come to its own end.
  if (await lever.count()) {
    await lever.tap();
    await page.waitForURL(`${url}${path}`);
  } else await page.goto(`${url}${path}`);
  await until(page, 'main[data-state=ended]');
  await close();
}

/** What a run page says of its run, for scripts. */
export const facts = (page) => page.locator('main').evaluate((main) => ({ ...main.dataset }));

/** Waits until the page, which looks again by itself or is told, says so. */
export const until = (page, selector, options = {}) => page.waitForSelector(selector, options);

/** Looks again and again until it is so. */
export async function poll(what, so, within = PATIENCE) {
  const deadline = Date.now() + within;
  while (!await so()) {
    assert.ok(Date.now() < deadline, `not ${what}`);
    await new Promise((done) => { setTimeout(done, 50); });
  }
}

/** Waits until the service worker looks after the page. */
export const guarded = (page) => page.waitForFunction(() => navigator.serviceWorker.controller !== null);

/** A screenshot, when somebody wants them. */
export async function shoot(page, file) {
  if (shots) await page.screenshot({ path: `${shots}/${file}.png`, fullPage: true });
}

/** How far the page is wider than its window. */
export const overflow = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

/** A line to the server that can be cut and mended. */
export async function line() {
  const ends = new Set();
  let whole = true;
  const { hostname, port } = new URL(url);
  const server = createServer((near) => {
    if (!whole) return near.destroy();
    const far = connect(Number(port), hostname);
    for (const [one, other] of [[near, far], [far, near]]) {
      ends.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => { ends.delete(one); other.destroy(); });
      one.pipe(other);
    }
  });
  await new Promise((done) => { server.listen(0, '127.0.0.1', done); });
  const cut = () => {
    whole = false;
    for (const end of ends) end.destroy();
  };
  return {
    server: `http://127.0.0.1:${server.address().port}`,
    cut,
    mend: () => { whole = true; },
    end: () => new Promise((done) => { cut(); server.close(done); }),
  };
}
