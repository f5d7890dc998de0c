// Times in the zone of whoever reads them. The server writes them in UTC, each in a <time> that says when it was; here they
// are written in the same form in the reader's own zone. Without this file they stay as they are, and say so.

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const part = new Intl.DateTimeFormat('en-GB', {
  timeZone: zone, hourCycle: 'h23', year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit',
  second: '2-digit', timeZoneName: 'short',
});

const DAY = /\d{4}-\d\d-\d\d/;
const CLOCK = /\d\d:\d\d:\d\d/;

function parts(date) {
  const of = Object.fromEntries(part.formatToParts(date).map(({ type, value }) => [type, value]));
  return { day: `${of.year}-${of.month}-${of.day}`, clock: `${of.hour}:${of.minute}:${of.second}`, name: of.timeZoneName };
}

/** The same time, where it was written in UTC, as the reader's clock has it. */
function moved(text, date) {
  const { day, clock, name } = parts(date);
  const today = parts(new Date()).day;
  const near = DAY.test(text) || day === today || !text.endsWith('UTC') ? '' : `${day} `;
  return near + text.replace(DAY, day).replace(CLOCK, clock).replace('UTC', name);
}

/** Writes a time anew that is written in UTC. */
export function localTime(time) {
  const date = new Date(time.dateTime);
  if (zone === 'UTC' || Number.isNaN(date.getTime())) return;
  if (time.title) time.title = moved(time.title, date);
  const text = time.firstChild;
  if (text?.nodeType === Node.TEXT_NODE && (CLOCK.test(text.data) || DAY.test(text.data))) text.data = moved(text.data, date);
}

/** Writes every time in here anew, and says whose they are; once, where they are new. */
export function localise(root) {
  if (zone === 'UTC') return;
  for (const time of root.querySelectorAll('time[datetime]')) localTime(time);
  for (const name of root.querySelectorAll('.zone')) name.textContent = parts(new Date()).name;
}

/** How long an exact time stays in the place of a rough one. */
const EXACT = 5_000;

/** Writes an exact time in the place of a rough one, for a while. Lists don't bring it along: it would be there fifty times. */
function say(time) {
  if (time.classList.contains('exact')) return;
  const { day, clock, name } = parts(new Date(time.dateTime));
  const rough = time.textContent;
  time.classList.add('exact');
  time.textContent = time.title || `${day} ${clock} ${name}`;
  setTimeout(() => {
    time.classList.remove('exact');
    time.textContent = rough;
  }, EXACT);
}

const ROUGH = 'time.ago[datetime]';

/** A rough time says the exact one when it is pressed. */
document.addEventListener('click', ({ target }) => {
  const time = target.closest?.(ROUGH);
  if (time) say(time);
});

/** All rough times in here say the exact ones. */
export function sayExact(root) {
  for (const time of root.querySelectorAll(ROUGH)) say(time);
}

localise(document);
