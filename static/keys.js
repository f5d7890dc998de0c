// Keys, for those who have some: j and k walk through what is listed, and a sheet says the rest. They can be turned off.
import { sayExact } from './times.js';

const SHEET = {
  title: 'Keys',
  keys: [
    ['j', 'the next run, or event'],
    ['k', 'the one before'],
    ['Enter', 'open it'],
    ['x', 'select it, to stop many'],
    ['t', 'stop it; asks first'],
    ['/', 'search'],
    ['e', 'exact times, for a moment'],
    ['?', 'this sheet'],
  ],
  on: 'Keys without Ctrl, as above',
  close: 'Close',
};

const listed = '.row, .ev';
const isOff = () => localStorage.getItem('keys') === 'off';
const here = () => document.activeElement?.closest(listed);

/** What in an item takes the focus. */
const handle = (item) => item.querySelector('a.title, input[type=checkbox], summary, a.at') ?? item;

function walk(step) {
  const items = [...document.querySelectorAll(listed)];
  const at = items.indexOf(here());
  const inSight = () => items.findIndex((item) => item.getBoundingClientRect().bottom > 80);
  const item = items[at < 0 ? inSight() : at + step];
  if (!item) return;
  const target = handle(item);
  if (target === item) item.tabIndex = -1;
  target.focus({ preventScroll: true });
  item.scrollIntoView({ block: 'nearest' });
}

/** Selects the run that has the focus, or goes to where runs are selected and selects it there. */
function select() {
  const box = here()?.querySelector('input[type=checkbox]');
  if (box) {
    box.click();
    return;
  }
  const way = document.querySelector('[data-key=x]');
  if (!way) return;
  const url = new URL(way.href);
  url.hash = here()?.id ?? '';
  location.assign(url);
}

/** The lever of the run that has the focus, or whose page this is. It only asks. */
const stop = () => (here()?.querySelector('a.lever') ?? document.querySelector('.runbar a.lever'))?.click();

function search() {
  const field = document.querySelector('input[type=search]');
  if (!field) {
    location.assign('/#search');
    return;
  }
  for (let fold = field.closest('details'); fold; fold = fold.parentElement.closest('details')) fold.open = true;
  field.focus();
  field.select();
}

function element(name, text, attributes = {}) {
  const it = document.createElement(name);
  if (text) it.textContent = text;
  for (const [key, value] of Object.entries(attributes)) it.setAttribute(key, value);
  return it;
}

function sheet() {
  const old = document.querySelector('dialog.sheet');
  if (old?.open) return;
  old?.remove();
  const dialog = element('dialog', '', { class: 'sheet', 'aria-labelledby': 'sheet' });
  const list = element('dl', '', { class: 'pairs' });
  for (const [key, does] of SHEET.keys) {
    const name = element('dt');
    name.append(element('kbd', key));
    list.append(name, element('dd', does));
  }
  const on = element('input', '', { type: 'checkbox', id: 'keys-on' });
  on.checked = !isOff();
  on.addEventListener('change', () => localStorage.setItem('keys', on.checked ? 'on' : 'off'));
  const label = element('label', SHEET.on, { class: 'tick' });
  label.prepend(on);
  const form = element('form', '', { method: 'dialog' });
  form.append(element('button', SHEET.close, { class: 'button' }));
  dialog.append(element('h2', SHEET.title, { id: 'sheet' }), list, label, form);
  document.body.append(dialog);
  dialog.showModal();
}

const exact = () => sayExact(here() ?? document);

const KEYS = { j: () => walk(1), k: () => walk(-1), x: select, t: stop, '/': search, e: exact, '?': sheet };

document.addEventListener('keydown', (event) => {
  const typing = event.target.closest?.('input:not([type=checkbox]), textarea, select, dialog');
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || typing || isOff()) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

for (const button of document.querySelectorAll('[data-key=sheet]')) {
  button.hidden = false;
  button.addEventListener('click', sheet);
}
// The browser takes the focus away from where it was when it goes to the place that the address names.
addEventListener('load', () => {
  if (location.hash === '#search') search();
  const box = location.hash.startsWith('#run-') && document.querySelector(location.hash)?.querySelector('input[type=checkbox]');
  if (box) {
    box.checked = true;
    box.focus();
  }
});
