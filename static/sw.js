// Keeps the shell of the pages, and nothing that they show: files of one version, and a page that says that the console
// can't be reached. Shows what is pushed.

const SHELL = ['{shell}'];
const KEPT = 'shell {version}';
const OFFLINE = '/static/{version}/offline.html';
const ICON = '/static/{version}/icon-192.png';
const BADGE = '/static/{version}/badge-96.png';

/** How long a page may take before it is said that the console can't be reached, in ms. */
const PATIENCE = 15_000;

self.addEventListener('install', (event) => {
  event.waitUntil(caches.open(KEPT).then((cache) => cache.addAll(SHELL)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => {
  event.waitUntil(takeOver());
});

async function takeOver() {
  for (const name of await caches.keys()) {
    if (name !== KEPT) await caches.delete(name);
  }
  // So that a page never waits for this worker to be started.
  await self.registration.navigationPreload?.enable();
  await self.clients.claim();
}

self.addEventListener('fetch', (event) => {
  const { request } = event;
  // Forms and streams go their way without us: a lever waits for nobody.
  if (request.method !== 'GET') return;
  const url = new URL(request.url);
  if (request.mode === 'navigate') event.respondWith(page(event));
  else if (url.origin === location.origin && SHELL.includes(url.pathname)) event.respondWith(file(request));
});

async function page(event) {
  let late;
  const patience = new Promise((_, reject) => { late = setTimeout(reject, PATIENCE, new Error('late')); });
  try {
    const answer = Promise.resolve(event.preloadResponse).then((preloaded) => preloaded ?? fetch(event.request));
    return await Promise.race([answer, patience]);
  } catch {
    return await caches.match(OFFLINE) ?? Response.error();
  } finally {
    clearTimeout(late);
  }
}

async function file(request) {
  return await caches.match(request) ?? fetch(request);
}

/** The last one that was shown. They take each other's place, so that a later one must never be overtaken. */
let shown = Promise.resolve();

self.addEventListener('push', (event) => {
  event.waitUntil(ring(event.data));
});

async function ring(data) {
  let said;
  try { said = data.json(); } catch { said = {}; }
  const mine = shown.then(() => show(said));
  shown = mine.catch(() => {});
  await mine;
  await answer(said);
  if (said.kind !== 'canary') return;
  for (const notice of await self.registration.getNotifications({ tag: 'canary' })) notice.close();
}

function show({ kind, text, opens }) {
  const isCanary = kind === 'canary';
  // Browsers want every push to be shown; the daily one makes no sound, and goes when it is answered.
  return self.registration.showNotification('Signalbox', {
    body: text ?? 'Something needs you',
    tag: isCanary ? 'canary' : 'signalbox',
    renotify: !isCanary,
    silent: isCanary,
    icon: ICON,
    badge: BADGE,
    data: { opens: opens ?? '/' },
  });
}

/** Says that it came. Whoever is signed out can't; then it counts as not arrived. */
async function answer({ ring, arrived }) {
  if (!ring || !arrived?.startsWith('/')) return;
  try {
    const body = new URLSearchParams({ ring });
    await fetch(arrived, { method: 'POST', body, redirect: 'manual', signal: AbortSignal.timeout(8_000) });
  } catch {
    // The console is away.
  }
}

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data?.opens ?? '/'));
});

async function open(path) {
  const url = new URL(path, location.origin).href;
  const windows = await self.clients.matchAll({ type: 'window' });
  const there = windows.find((client) => client.url === url) ?? windows[0];
  if (!there) return self.clients.openWindow(url);
  await there.focus();
  return there.url === url ? there : there.navigate(url).catch(() => self.clients.openWindow(url));
}
