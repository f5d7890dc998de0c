// Makes a page live: its stream tells which of its elements have changed, and they are changed in place. Without this file
// every page works as well; it is loaded again by hand, or by itself where something moves.
import './keys.js';
import { localise, localTime } from './times.js';

/** How long a link may be silent, in ms, before the page says how old it is. The server's pulse is 5 s. */
const SILENT = 10_000;
/** How soon a stream that the browser has given up is opened again, and how long a page stays live unseen. */
const AGAIN = 2_000;
const UNSEEN = 30_000;

const main = () => document.getElementById('main');
const href = main()?.dataset.live;
const policy = window.trustedTypes?.createPolicy('live', { createHTML: (html) => html }) ?? { createHTML: (html) => html };

let stream;
let last;
let heard = Date.now();
let shown = Date.parse(document.getElementById('as-of')?.dateTime) || Date.now();
/** How far the server's clock is ahead of ours. */
let ahead = 0;
let again;
let unseen;

/** The element that this HTML is, or the elements. */
function parse(html) {
  const template = document.createElement('template');
  template.innerHTML = policy.createHTML(html);
  localise(template.content);
  return template.content;
}

// --- what is there becomes what shall be there --------------------------------------------------

/** Whether the page looks after this element itself. */
const own = (node) => node.nodeType === Node.ELEMENT_NODE && node.hasAttribute('data-own');
/** What the person has done to an element stays: what is open, ticked, typed. */
const KEPT = { DETAILS: ['open'], INPUT: ['value', 'checked'], TEXTAREA: ['value'], OPTION: ['selected'] };

function morphAttributes(from, to) {
  const kept = KEPT[from.nodeName] ?? [];
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !kept.includes(name)) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value && !kept.includes(name)) from.setAttribute(name, value);
  }
}

function morph(from, to) {
  if (own(from)) return;
  morphAttributes(from, to);
  const children = [...to.childNodes];
  let at = from.firstChild;
  for (const [n, next] of children.entries()) {
    const wanted = (node) => children.slice(n + 1).some((child) => isLike(node, child));
    const found = counterpart(from, at, next, wanted);
    if (!found) {
      from.insertBefore(document.importNode(next, true), at);
      continue;
    }
    // What stays isn't moved, or it would lose its focus and how far it is scrolled: what stands in its way goes, unless
    // it will be wanted.
    const between = nodesBetween(at, found);
    if (between && !between.some(wanted)) {
      for (const node of between) node.remove();
      at = found;
    }
    if (found === at) at = at.nextSibling;
    else from.insertBefore(found, at);
    // In the place of a piece stands a template of its id: what is there stays as it is.
    if (next.nodeName === 'TEMPLATE') continue;
    if (next.nodeType !== Node.ELEMENT_NODE) {
      if (found.data !== next.data) found.data = next.data;
    } else morph(found, next);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

/** Whether an element can become the other one: it has its id, or neither has one and they are of one kind. */
function isLike(node, next) {
  if (node.nodeType !== Node.ELEMENT_NODE || next.nodeType !== Node.ELEMENT_NODE) return false;
  if (node.id || next.id) return node.id === next.id && (next.nodeName === 'TEMPLATE' || node.nodeName === next.nodeName);
  return node.nodeName === next.nodeName && node.getAttribute('class') === next.getAttribute('class');
}

/** What in `from`, at `at` or behind it, becomes `next`. */
function counterpart(from, at, next, wanted) {
  if (next.nodeType !== Node.ELEMENT_NODE) return at?.nodeType === next.nodeType ? at : null;
  if (next.id) {
    const known = document.getElementById(next.id);
    return known?.parentNode === from && isLike(known, next) ? known : null;
  }
  for (let node = at; node; node = node.nextSibling) {
    if (isLike(node, next)) return node;
  }
  // Its class may be what has changed.
  return at?.nodeName === next.nodeName && !at.id && !wanted(at) ? at : null;
}

/** The nodes from one up to another one behind it; none when it doesn't lie behind. */
function nodesBetween(at, found) {
  const between = [];
  for (let node = at; node; node = node.nextSibling) {
    if (node === found) return between;
    between.push(node);
  }
  return null;
}

/** Changes the pieces that came, those that hold others first: where a new one belongs, its template says. */
function change(pieces) {
  const focused = document.activeElement;
  const came = new Map();
  for (const html of Object.values(pieces)) {
    const piece = parse(html).firstElementChild;
    if (piece) came.set(piece.id, piece);
  }
  const inside = (piece) => {
    for (const slot of piece.querySelectorAll('template[id]')) {
      const known = document.getElementById(slot.id);
      const fresh = came.get(slot.id);
      if (fresh && !known) {
        slot.replaceWith(fresh);
        came.delete(slot.id);
        inside(fresh);
      }
    }
  };
  for (const piece of [...came.values()]) inside(piece);
  for (const [id, piece] of came) {
    const known = document.getElementById(id);
    if (known) morph(known, piece);
  }
  if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

// --- the stream ---------------------------------------------------------------------------------

function open() {
  clearTimeout(again);
  stream?.close();
  const url = new URL(href, location.href);
  if (last) url.searchParams.set('seen', last);
  stream = new EventSource(url);
  stream.onmessage = (event) => {
    const { at, pieces, events } = JSON.parse(event.data);
    last = event.lastEventId;
    heard = Date.now();
    ahead = at - heard;
    shown = at;
    const before = state();
    const follows = talk?.atEnd();
    if (pieces) change(pieces);
    if (events) talk?.append(events, follows);
    if (follows) scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' });
    if (pieces) say(before);
    tick();
  };
  // Nothing here is to be seen any more; the server says what is instead.
  stream.addEventListener('leave', () => location.reload());
  stream.addEventListener('stale', () => location.reload());
  stream.onerror = () => {
    if (stream.readyState === EventSource.CLOSED) {
      again = setTimeout(retry, AGAIN);
    }
  };
}

/** The browser has given the stream up, because something else answered: is it the door? */
async function retry() {
  try {
    const answer = await fetch(href, { redirect: 'manual', cache: 'no-store' });
    answer.body?.cancel();
    if (answer.type === 'opaqueredirect' || [401, 403, 404].includes(answer.status)) {
      location.reload();
      return;
    }
  } catch {
    // The server is away.
  }
  open();
}

function close() {
  clearTimeout(again);
  stream?.close();
  stream = undefined;
}

// --- what is said of it -------------------------------------------------------------------------

const state = () => [main()?.dataset.state, main()?.dataset.outcome, main()?.dataset.wish].join();

/** Says what became of the run, to those who listen instead of looking. */
function say(before) {
  const { title, state: is } = main()?.dataset ?? {};
  if (title) document.title = `${title} · Signalbox`;
  if (is && state() !== before) speak(title);
}

const speak = (words) => put(document.getElementById('said'), words);

/** A span in its largest unit, as the server writes it in lists. */
function rough(s) {
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} days`;
}

/** A span in its two largest units. */
function span(s) {
  const two = (large, unit, small, sub) => small ? `${large} ${unit} ${small} ${sub}` : `${large} ${unit}`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return two(Math.floor(s / 60), 'min', s % 60, 's');
  if (s < 86_400) return two(Math.floor(s / 3600), 'h', Math.floor(s % 3600 / 60), 'min');
  const days = Math.floor(s / 86_400);
  return two(days, days === 1 ? 'day' : 'days', Math.floor(s % 86_400 / 3600), 'h');
}

/** A span to the minute, below one to the second. */
const minutes = (s) => span(s < 60 ? s : s - s % 60);

const WORDS = {
  ago: (s) => s < 1 ? 'just now' : `${rough(s)} ago`,
  for: (s) => `for ${span(s)}`,
  span,
  minutes,
};

const put = (element, text) => {
  if (element && element.textContent !== text) element.textContent = text;
};

/** Once a second: what was so long ago is so a second longer; and how old the page is, when nothing is heard. */
function tick() {
  const silent = Date.now() - heard;
  // What is shown may have changed since, so that its ages stand still with it.
  const now = silent > SILENT ? shown : Date.now() + ahead;
  for (const time of document.querySelectorAll('time:is(.ago, .for, .span, .minutes):not(.exact)')) {
    const age = Math.max(0, Math.floor((now - Date.parse(time.dateTime)) / 1000));
    if (!Number.isNaN(age)) put(time, WORDS[time.className](age));
  }
  const late = document.getElementById('late');
  const asOf = document.getElementById('as-of');
  const old = `${rough(Math.floor(silent / 1000))} ago`;
  if (silent > SILENT) {
    put(asOf, old);
    if (late.hidden) speak('No word from the server.');
    late.hidden = false;
    put(late.querySelector('b'), `As of ${old}.`);
  } else {
    if (!late.hidden) speak('The server is heard again.');
    late.hidden = true;
    if (asOf) {
      asOf.dateTime = new Date(shown).toISOString();
      put(asOf, `${asOf.dateTime.slice(11, 19)} UTC`);
      localTime(asOf);
    }
  }
}

// What else makes an app of the pages stands on its own.
addEventListener('load', () => import('./shell.js').catch(() => {}));
/** The part of this script that only a page with a transcript needs. */
const talk = document.getElementById('talk') ? await import('./talk.js') : null;
talk?.begin(parse);

if (href && window.EventSource) {
  open();
  setInterval(tick, 1000);
  addEventListener('pagehide', close);
  addEventListener('pageshow', (event) => {
    if (event.persisted) open();
  });
  addEventListener('online', () => {
    if (Date.now() - heard > SILENT) open();
  });
  document.addEventListener('visibilitychange', () => {
    clearTimeout(unseen);
    if (document.hidden) unseen = setTimeout(close, UNSEEN);
    else if (!stream || stream.readyState === EventSource.CLOSED || Date.now() - heard > SILENT) open();
  });
}
