// What makes the pages an app on a phone: the worker that keeps their shell, the time at which the console was last seen, a
// lever that can be felt, and the bell that the device may be.

/** The one worker there is; see src/web/assets.rs. */
const WORKER = '/static/worker/sw.js';
/** How often the time is noted, in ms. */
const NOTED = 5_000;

const only = (url) => {
  if (url !== WORKER) throw new TypeError(url);
  return url;
};
const policy = window.trustedTypes?.createPolicy('worker', { createScriptURL: only }) ?? { createScriptURL: only };

/** The worker's registration; none where there are no workers. */
export const registered = navigator.serviceWorker
  ? navigator.serviceWorker.register(policy.createScriptURL(WORKER), { scope: '/' }).catch(() => undefined)
  : Promise.resolve(undefined);

/** What the browser keeps for us; some keep nothing in a private window. */
export const kept = {
  get(name) {
    try { return localStorage.getItem(name); } catch { return null; }
  },
  set(name, value) {
    try {
      if (value === null) localStorage.removeItem(name);
      else localStorage.setItem(name, value);
    } catch { /* Then it isn't kept. */ }
  },
};

// The console has just answered. A page that is live goes on hearing it, until it says that the link is lost.
const seen = () => kept.set('seen', String(Date.now()));
seen();
if (document.getElementById('main')?.dataset.live) {
  setInterval(() => {
    if (!document.hidden && document.getElementById('late')?.hidden) seen();
  }, NOTED);
}

// A lever is felt: a tick when one asks, more when it is pulled.
document.addEventListener('click', (event) => {
  const lever = event.target.closest?.('.lever, .handle');
  if (lever) navigator.vibrate?.(lever.matches('button') ? [30, 40, 30] : 12);
}, { passive: true });

const here = document.getElementById('here');
if (here?.dataset.key || kept.get('bell.device')) {
  import('./bell.js').then((bell) => bell.look(here)).catch(() => {});
}
