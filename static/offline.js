// On the page that stands in for one that couldn't be reached: when the console was last seen, and whether it is back.

/** How often it is asked, in ms: a little later each time. */
const FIRST = 2_000;
const MOST = 30_000;

function span(s) {
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} days`;
}

const two = (n) => String(n).padStart(2, '0');

/** A time of this device's own day, with its day in front when that is another one. */
function clock(at, now) {
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return at.toDateString() === now.toDateString() ? time : `${day} ${time}`;
}

function say() {
  let seen;
  try { seen = Number(localStorage.getItem('seen')); } catch { /* Nothing is kept here. */ }
  if (!seen) return;
  const now = new Date();
  const ago = Math.max(0, Math.floor((now - seen) / 1000));
  document.getElementById('seen').textContent = `at ${clock(new Date(seen), now)}, ${ago < 1 ? 'just now' : `${span(ago)} ago`}`;
}

let pause = FIRST;
let next;

async function look() {
  clearTimeout(next);
  try {
    const answer = await fetch('/healthz', { cache: 'no-store', signal: AbortSignal.timeout(5_000) });
    if (answer.ok) {
      location.reload();
      return;
    }
  } catch {
    // Not yet.
  }
  next = setTimeout(look, pause);
  document.getElementById('tries').textContent = `It is tried again by itself, in ${span(Math.round(pause / 1000))}.`;
  pause = Math.min(pause * 1.5, MOST);
}

say();
setInterval(say, 1000);
next = setTimeout(look, pause);
addEventListener('online', look);
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) look();
});
document.getElementById('again').addEventListener('click', (event) => {
  event.preventDefault();
  location.reload();
});
