// The transcript of a run: what is new comes below it, what is older or newer is fetched as one scrolls there. Without this
// file there are links. live.js loads it where there is a transcript.

/** How many entries stay in a page that follows the end, and in one whose reader is somewhere else. */
const ENTRIES = 600;
const ENTRIES_UNFOLLOWED = 1800;
/** How near the end of what is there one is, in pixels, when more is fetched; how often without being asked, one after the other. */
const NEAR = 800;
const UNASKED = 5;

const talk = document.getElementById('talk');
const pill = document.getElementById('pill');
const page = document.documentElement;

let parse;
/** How many have come below that weren't in sight. */
let unseen = 0;
/** Whether the newest events aren't here any more, so that none can be put below them. */
let cutOff = false;
let fetching = false;
let unasked = UNASKED;
let lastTop = scrollY;

/** Whether its end is in sight: then it stays in sight. */
export const atEnd = () => page.scrollTop > 0 && page.scrollTop + page.clientHeight > page.scrollHeight - 80;

/** Begins; `parser` makes elements of text. */
export function begin(parser) {
  parse = parser;
  // A place that was asked for without its mark.
  if (!location.hash) talk.querySelector('.marked')?.scrollIntoView({ block: 'center', behavior: 'instant' });
  addEventListener('scroll', look, { passive: true });
  talk.addEventListener('click', (event) => {
    const link = event.target.closest?.('#older a, #newer a');
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    unasked = UNASKED;
    more(link.parentElement);
  });
  pill?.addEventListener('click', (event) => {
    event.preventDefault();
    if (cutOff) {
      location.href = `${location.pathname}#newest`;
      location.reload();
      return;
    }
    scrollTo({ top: page.scrollHeight, behavior: 'instant' });
    seen();
  });
}

const entries = () => talk.querySelectorAll(':scope > .ev');

/** How many events these elements hold. */
function count(elements) {
  let n = 0;
  for (const element of elements) n += element.querySelectorAll('.lines > span').length || 1;
  return n;
}

/** Puts new events below; `follows` says whether the end was in sight. */
export function append(html, follows) {
  document.getElementById('silence')?.remove();
  const came = [...parse(html).children];
  if (!follows || cutOff) {
    unseen += count(came);
    tell();
  }
  if (cutOff) return;
  for (const entry of came) join(entry);
  const all = entries();
  if (follows && all.length > ENTRIES) drop([...all].slice(0, all.length - ENTRIES));
  // Who reads something older keeps it; what is new then waits where it is.
  else if (all.length > ENTRIES_UNFOLLOWED) cutOff = true;
}

function join(entry) {
  const last = [...entries()].at(-1);
  const lines = entry.querySelector(':scope > .lines');
  const before = last?.querySelector(':scope > .lines');
  // Plain lines of one stream stand together.
  if (lines && before && lines.className === before.className && before.childElementCount < 200) {
    before.append(...lines.querySelectorAll(':scope > span'));
  } else if (last) last.after(entry);
  else talk.append(entry);
}

function seen() {
  unseen = 0;
  tell();
}

function tell() {
  if (!pill) return;
  pill.hidden = unseen === 0;
  const words = `${unseen.toLocaleString('en')} new below ↓`;
  if (unseen && pill.textContent !== words) pill.textContent = words;
}

/** The number of an entry's first event, and of its last one. */
const first = (entry) => Number((entry.querySelector('.lines > span') ?? entry).id.slice(1));
const last = (entry) => Number(([...entry.querySelectorAll('.lines > span')].at(-1) ?? entry).id.slice(1));

/** A link to what isn't here. */
function link(id, words, query) {
  let at = document.getElementById(id);
  if (!at) {
    at = parse(`<p class="older" id="${id}"><a>${words}</a></p>`).firstElementChild;
    if (id === 'older') talk.prepend(at);
    else talk.append(at);
  }
  at.firstElementChild.href = `${location.pathname}?${query}`;
}

/** Takes entries out at one end. */
function drop(gone) {
  if (gone.length === 0) return;
  const isNewest = gone.at(-1) === [...entries()].at(-1);
  for (const entry of gone) entry.remove();
  const left = [...entries()];
  if (isNewest) {
    cutOff = true;
    link('newer', '↓ Newer events', `after=${last(left.at(-1))}`);
  } else link('older', '↑ Older events', `before=${first(left[0])}`);
}

/** While somebody scrolls: is more wanted? */
function look() {
  const up = scrollY < lastTop;
  lastTop = scrollY;
  if (unseen && !cutOff && atEnd()) seen();
  const at = document.getElementById(up ? 'older' : 'newer');
  if (!at || fetching || unasked === 0) return;
  const { top, bottom } = at.getBoundingClientRect();
  // Above the transcript there is something to be read too: one gets past it, and to the top by one jump.
  const near = up ? bottom > -NEAR && bottom < page.clientHeight && scrollY > NEAR / 2 : top < page.clientHeight + NEAR;
  if (!near) return;
  unasked -= 1;
  more(at);
}

/** Fetches what a link leads to, and puts it in its place; what is being read stays where it is. */
async function more(at) {
  if (fetching) return;
  fetching = true;
  at.setAttribute('aria-busy', 'true');
  try {
    const answer = await fetch(at.firstElementChild.href, { cache: 'no-store' });
    const found = answer.ok ? parse(await answer.text()).querySelector('#talk') : null;
    if (!found) {
      location.href = at.firstElementChild.href;
      return;
    }
    put(at, found);
  } catch {
    // The server is away: the link is still there.
    at.removeAttribute('aria-busy');
    unasked = 0;
  } finally {
    fetching = false;
  }
}

function put(at, found) {
  const isOlder = at.id === 'older';
  const came = [...found.querySelectorAll(':scope > .ev')];
  const next = found.querySelector(`#${at.id}`);
  const had = at.contains(document.activeElement);
  const held = [...entries()].at(isOlder ? 0 : -1);
  const was = held?.getBoundingClientRect().top;
  // The browser would hold another element still.
  page.style.overflowAnchor = 'none';
  if (isOlder) at.after(...came);
  else at.before(...came);
  if (next) at.firstElementChild.href = next.firstElementChild.getAttribute('href');
  else at.remove();
  at.removeAttribute('aria-busy');
  if (!next && !isOlder && !cutOff) talk.append(...found.querySelectorAll(':scope > .older:not([id])'));
  const all = [...entries()];
  const gone = all.length - ENTRIES_UNFOLLOWED;
  if (gone > 0) drop(isOlder ? all.slice(-gone) : all.slice(0, gone));
  if (held?.isConnected) scrollBy({ top: held.getBoundingClientRect().top - was, behavior: 'instant' });
  lastTop = scrollY;
  if (had) (at.isConnected ? at.firstElementChild : talk).focus?.({ preventScroll: true });
  requestAnimationFrame(() => requestAnimationFrame(() => { page.style.overflowAnchor = ''; }));
}
