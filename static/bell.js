// The bell that this device is: made one on its settings page, and kept one by each page that is opened on it.
import { kept, registered } from './shell.js';

const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));

function text(buffer) {
  const all = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(all).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/** This browser's subscription under this key; a new one where there is none, or one under another key. */
async function subscription(registration, key) {
  const there = await registration.pushManager.getSubscription();
  if (there && text(there.options.applicationServerKey ?? new ArrayBuffer(0)) === key) return there;
  await there?.unsubscribe();
  return registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(key) });
}

/** Sends it; true when it was taken, false when this device is no bell. */
async function send(path, subscribed, fields) {
  const form = new URLSearchParams(fields);
  form.set('device', kept.get('bell.device'));
  form.set('url', subscribed.endpoint);
  form.set('p256dh', text(subscribed.getKey('p256dh')));
  form.set('auth', text(subscribed.getKey('auth')));
  const answer = await fetch(path, { method: 'POST', body: form, redirect: 'error', signal: AbortSignal.timeout(10_000) });
  if (answer.status === 404) return false;
  if (answer.ok) return true;
  const page = await answer.text();
  throw new Error(/<h1>([^<]*)/.exec(page)?.[1] ?? `The server answered ${answer.status}.`);
}

/** From here on it is no bell. */
async function forget(registration) {
  for (const name of ['bell.device', 'bell.key', 'bell.renew']) kept.set(name, null);
  await (await registration.pushManager.getSubscription())?.unsubscribe();
}

/** Whether it may be one, and is. */
function state() {
  if (!window.isSecureContext) return 'insecure';
  if (!('PushManager' in window) || !('Notification' in window) || !navigator.serviceWorker) return 'none';
  if (Notification.permission === 'denied') return 'denied';
  return kept.get('bell.device') && Notification.permission === 'granted' ? 'on' : 'off';
}

/** Sends the subscription again, as it is now: whatever the browser or the push service have lost is found again. */
async function renew(registration, key) {
  if (await send(kept.get('bell.renew'), await subscription(registration, key), {})) return true;
  await forget(registration);
  return false;
}

/** On each page; `here` is its place on the settings page. */
export async function look(here) {
  const registration = await registered && await navigator.serviceWorker.ready;
  const is = (word) => {
    if (here) here.dataset.is = word;
  };
  const now = registration || state() === 'insecure' ? state() : 'none';
  if (now === 'on') {
    // Its key may have changed since.
    const key = here?.dataset.key ?? kept.get('bell.key');
    const still = await renew(registration, key).catch(() => true);
    if (still) kept.set('bell.key', key);
    is(still ? 'on' : 'off');
  } else is(now);
  if (!here) return;
  const own = document.querySelector(`[data-device="${kept.get('bell.device')}"]`);
  if (own) {
    own.dataset.here = '';
    document.getElementById('known-as').textContent = own.querySelector('h2 > span').textContent;
  } else if (here.dataset.is === 'on') is('off');
  document.getElementById('subscribe').addEventListener('submit', (event) => {
    event.preventDefault();
    make(registration, here, new FormData(event.target));
  });
}

async function make(registration, here, form) {
  here.dataset.is = 'busy';
  try {
    if (await Notification.requestPermission() !== 'granted') {
      here.dataset.is = state();
      return;
    }
    if (!kept.get('bell.device')) kept.set('bell.device', crypto.randomUUID());
    kept.set('bell.key', here.dataset.key);
    kept.set('bell.renew', here.dataset.renew);
    await send(here.dataset.add, await subscription(registration, here.dataset.key), form);
    location.reload();
  } catch (error) {
    kept.set('bell.device', null);
    document.getElementById('why').textContent = error.message;
    here.dataset.is = 'failed';
  }
}
