// The app on a phone: what the service worker keeps, what is shown when the console can't be reached, and the bells' page.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { desk, guarded, line, open, overflow, phone, poll, shoot, start, until, url } from './browser.mjs';

test('the service worker keeps the shell, and nothing that stands behind the guard', async () => {
  const { page, complaints, close } = await open(phone, { script: true });
  await page.goto(`${url}/`);
  await guarded(page);
  const run = await start(page, 'Say hello.\nscenario: answer', 'A secret title');
  await until(page, 'main[data-state=ended]');
  for (const path of ['/', run, `${run}/terminate`, '/workers', '/agents', '/health', '/audit', '/account', '/account/bells']) {
    await page.goto(url + path);
    await page.waitForFunction(() => navigator.serviceWorker.controller);
  }
  const kept = await page.evaluate(async () => {
    const found = [];
    for (const name of await caches.keys()) {
      const cache = await caches.open(name);
      for (const request of await cache.keys()) {
        found.push({ path: new URL(request.url).pathname, text: await (await cache.match(request)).text() });
      }
    }
    return found;
  });
  assert.ok(kept.length >= 8, 'it keeps something');
  assert.ok(kept.some(({ path }) => path.endsWith('/offline.html')));
  for (const { path, text } of kept) {
    assert.match(path, /^\/static\/[0-9a-f]+\/[\w.-]+$/, 'only files that everybody may have');
    assert.ok(!text.includes('A secret title'), path);
  }
  // What it keeps is what a stranger gets.
  const { page: stranger, close: leave } = await open(phone, { stranger: true });
  for (const { path } of kept) assert.equal((await stranger.request.get(url + path, { maxRedirects: 0 })).status(), 200, path);
  await leave();
  assert.deepEqual(complaints, []);
  await close();
});

test('a console that can’t be reached is said to be so, with when it was last seen, and comes back by itself', async () => {
  const link = await line();
  const { page, close } = await open(phone, { script: true, proxy: { server: link.server, bypass: '<-loopback>' } });
  const run = await start(page, 'Say hello.\nscenario: answer', 'Another secret title');
  await guarded(page);
  link.cut();
  await page.goto(`${url}${run}`);
  await page.locator('[data-offline]').waitFor();
  assert.match(await page.locator('h1').innerText(), /can’t be reached/);
  await page.waitForFunction(() => /^at \d\d:\d\d:\d\d, (just now|\d+ s ago)$/.test(document.getElementById('seen').textContent));
  assert.doesNotMatch(await page.content(), /Another secret title|scenario/, 'nothing stale is shown');
  assert.equal(await overflow(page), 0);
  await shoot(page, 'offline');
  await page.locator('#tries').filter({ hasText: /in \d+ s/ }).waitFor();
  link.mend();
  await page.locator(`main[data-run="${run.split('/').pop()}"]`).waitFor();
  assert.equal(new URL(page.url()).pathname, run);
  await close();
  await link.end();
});

test('what is pushed is shown in words for a lock screen, and one that comes back leads to the console', async () => {
  const { page, close } = await open(phone, { script: true, permissions: ['notifications'] });
  await page.goto(`${url}/`);
  await guarded(page);
  const devtools = await page.context().newCDPSession(page);
  const versions = new Promise((done) => {
    devtools.on('ServiceWorker.workerRegistrationUpdated', ({ registrations }) => {
      const ours = registrations.find((it) => it.scopeURL === `${url}/`);
      if (ours) done(ours.registrationId);
    });
  });
  await devtools.send('ServiceWorker.enable');
  const registrationId = await versions;
  const push = (data) => devtools.send('ServiceWorker.deliverPushMessage', { origin: url, registrationId, data });
  // What it asks to be shown. What a browser without a screen says of that isn't certain.
  const [worker] = page.context().serviceWorkers();
  await worker.evaluate(() => {
    self.asked = [];
    const show = self.registration.showNotification.bind(self.registration);
    self.registration.showNotification = (title, options) => {
      self.asked.push(`${options.tag}: ${title}: ${options.body}`);
      return show(title, options);
    };
  });
  const asked = async (count) => {
    let all = [];
    await poll(`asked to show ${count}`, async () => {
      all = await worker.evaluate(() => self.asked);
      return all.length >= count;
    });
    return all;
  };
  const told = ['1 run needs you', '2 runs need you', '3 runs need you'];
  for (const [n, text] of told.entries()) {
    await push(JSON.stringify({ ring: n + 1, kind: 'told', text, opens: '/', arrived: '/account/bells/arrived' }));
  }
  assert.deepEqual(await asked(3), told.map((text) => `signalbox: Signalbox: ${text}`), 'in order, and one takes the other’s place');
  const answered = page.context().waitForEvent('request', (request) => request.postData() === 'ring=4');
  await push(JSON.stringify({ ring: 4, kind: 'canary', text: 'This device is reached.', arrived: '/account/bells/arrived' }));
  assert.equal(new URL((await answered).url()).pathname, '/account/bells/arrived');
  await page.waitForFunction(async () => (await (await navigator.serviceWorker.ready).getNotifications({ tag: 'canary' })).length === 0);
  await push('nonsense');
  assert.deepEqual((await asked(5)).slice(3), ['canary: Signalbox: This device is reached.', 'signalbox: Signalbox: Something needs you']);
  await close();
});

/** What a browser says of itself, told before a page asks. */
const pretend = (page, how) => page.addInitScript((how) => {
  if (how.permission) Object.defineProperty(Notification, 'permission', { get: () => how.permission });
  if (how.permission) Notification.requestPermission = async () => how.answer ?? how.permission;
  if (how.none) delete window.PushManager;
  if (how.subscribes) {
    const key = (n) => new Uint8Array(n).fill(7).buffer;
    let there = null;
    PushManager.prototype.getSubscription = async () => there;
    PushManager.prototype.subscribe = async (options) => {
      there = {
        endpoint: 'https://push.example/a-device',
        options: { applicationServerKey: options.applicationServerKey.buffer },
        getKey: (name) => key(name === 'auth' ? 16 : 65),
        unsubscribe: async () => { there = null; return true; },
      };
      return there;
    };
  }
}, how);

for (const [name, how, said] of [
  ['denied', { permission: 'denied' }, 'You said no.'],
  ['none', { none: true }, 'This browser has no push.'],
  ['off', { permission: 'default', answer: 'denied' }, 'Make it a bell'],
]) {
  test(`a browser that can’t be a bell is told why: ${name}`, async () => {
    const { page, complaints, close } = await open(phone, { script: true });
    await pretend(page, how);
    await page.goto(`${url}/account/bells`);
    await page.locator(`#here[data-is=${name}]`).waitFor();
    assert.match(await page.locator('#here').innerText(), new RegExp(said));
    assert.equal(await overflow(page), 0);
    await shoot(page, `bells-${name}`);
    assert.deepEqual(complaints, []);
    await close();
  });
}

test('without JavaScript the page says what that means, and an address is put up, changed and taken down', async () => {
  const { page, complaints, close } = await open(phone);
  await page.goto(`${url}/account`);
  await page.getByRole('link', { name: 'Bells' }).first().tap();
  assert.match(await page.locator('#here').innerText(), /if it runs JavaScript/);
  await page.getByText('Put up an address…').tap();
  await page.getByText('Slack', { exact: true }).tap();
  await page.getByRole('textbox', { name: 'Address' }).fill('https://hooks.slack.example/services/T/B/secret');
  await page.getByLabel('Name optional').fill('The team');
  await page.getByRole('button', { name: 'Put it up' }).tap();
  const card = page.locator('[data-bell]').filter({ hasText: 'The team' });
  await card.waitFor();
  assert.doesNotMatch(await page.content(), /services\/T\/B/);
  await card.locator('summary').tap();
  await card.getByText('A run succeeded').tap();
  await card.getByRole('button', { name: 'Keep' }).tap();
  await page.locator('[data-bell]').filter({ hasText: 'Rings for everything' }).waitFor();
  await shoot(page, 'bells-address');
  await page.getByRole('button', { name: 'Take The team down' }).tap();
  await page.getByText('You have no bell.').waitFor();
  assert.deepEqual(complaints, []);
  await close();
});

test('a device becomes a bell, stays one, and is none any more when it was taken down elsewhere', async () => {
  const { page, complaints, close } = await open(phone, { script: true });
  await pretend(page, { permission: 'granted', subscribes: true });
  await page.goto(`${url}/account/bells`);
  await page.getByLabel('Name', { exact: true }).fill('My phone');
  // No point on a curve: the server keeps it all the same, and finds out when it rings.
  await page.getByRole('button', { name: 'Make it a bell' }).tap();
  await page.locator('#here[data-is=on]').waitFor();
  assert.match(await page.locator('#here').innerText(), /My phone/);
  await shoot(page, 'bells-on');
  const renewed = page.waitForResponse((answer) => answer.url().endsWith('/device/renew'));
  await page.goto(`${url}/agents`);
  assert.equal((await renewed).status(), 200, 'each page that is opened renews it');
  const { page: other, close: leave } = await open(desk);
  await other.goto(`${url}/account/bells`);
  await other.getByRole('button', { name: 'Take My phone down' }).click();
  await leave();
  const refused = page.waitForResponse((answer) => answer.url().endsWith('/device/renew'));
  await page.goto(`${url}/agents`);
  assert.equal((await refused).status(), 404);
  await page.waitForFunction(() => localStorage.getItem('bell.device') === null);
  assert.deepEqual(complaints.filter((it) => !it.includes('404')), []);
  await close();
});

test('a lever can be felt', async () => {
  const { page, complaints, close } = await open(phone, { script: true });
  await page.addInitScript(() => {
    window.felt = [];
    navigator.vibrate = (pattern) => window.felt.push(pattern);
    addEventListener('click', (event) => event.preventDefault());
  });
  await page.goto(`${url}/agents`);
  // The script that registers the worker listens to taps by then.
  await guarded(page);
  await page.getByRole('link', { name: 'Account' }).tap();
  assert.deepEqual(await page.evaluate(() => window.felt), [], 'a link isn’t');
  await page.locator('.handle').tap();
  assert.deepEqual(await page.evaluate(() => window.felt), [12]);
  assert.deepEqual(complaints, []);
  await close();
});
