// The panel of settings: how this conversation is sampled, and how the page looks.

import { storeKey, storedKey } from './api.js';
import { h, iconButton } from './dom.js';
import { closeOnBackdrop } from './notices.js';
import { language, number, setLanguage, t } from './strings.js';
import { setTheme, theme } from './theme.js';

const FIELDS = [
  { name: 'temperature', min: 0, max: 2, step: 0.05, slider: true },
  { name: 'top_p', min: 0.05, max: 1, step: 0.05, slider: true },
  { name: 'max_tokens', min: 1, max: null, step: 1 },
  { name: 'seed', min: 0, max: 2 ** 53 - 1, step: 1 },
];

/** Opens the panel. `changed(settings)` runs with every change; nothing needs to be confirmed. */
export function openSettings({ info, settings, needsKey, changed, keyChanged }) {
  const fields = FIELDS.map((field) => fieldRow(field, info, settings, changed));
  const system = h('textarea', { class: 'field', rows: '4', dir: 'auto', id: 'set-system', placeholder: t('system_placeholder'), value: settings.system ?? '' });
  system.addEventListener('input', () => {
    if (system.value.trim() === '') delete settings.system;
    else settings.system = system.value;
    changed(settings);
  });
  const reset = h('button', { type: 'button', class: 'button', text: t('reset'), on: { click: () => {
    for (const name of Object.keys(settings)) delete settings[name];
    changed(settings);
    dialog.close();
    openSettings({ info, settings, needsKey, changed, keyChanged });
  } } });
  const dialog = h('dialog', { class: 'drawer', 'aria-labelledby': 'settings-title' },
    h('header', { class: 'drawer-head' }, h('h2', { id: 'settings-title', text: t('settings') }), iconButton('close', t('close'), () => dialog.close())),
    h('div', { class: 'drawer-body' },
      h('section', {}, h('h3', { text: t('model') }), facts(info)),
      h('section', {}, h('h3', { text: t('this_conversation') }),
        h('div', { class: 'setting' }, h('label', { for: 'set-system', text: t('system_prompt') }), system), ...fields, reset),
      h('section', {}, h('h3', { text: t('page') }),
        choice('theme', t('theme'), theme(), [['auto', t('theme_auto')], ['light', t('theme_light')], ['dark', t('theme_dark')]], setTheme),
        choice('language', t('language'), language(), [['en', 'English'], ['zh', '中文']], (wanted) => {
          setLanguage(wanted);
          location.reload();
        }),
        needsKey || storedKey() !== null ? keyRow(keyChanged) : null)));
  closeOnBackdrop(dialog);
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function facts(info) {
  const rows = [[t('name'), info.model]];
  if (info.context !== null) rows.push([t('context'), t('tokens', { n: number(info.context) })]);
  rows.push([t('deepthink'), t(`thinking_${info.thinking}`)]);
  if (info.experts !== null) rows.push([t('experts'), t('experts_fact', { n: info.experts.n_routed_experts, k: info.experts.num_experts_per_tok, layers: info.experts.layers.length })]);
  if (info.version !== '') rows.push(['Fathom', info.version]);
  return h('dl', { class: 'facts' }, ...rows.flatMap(([name, value]) => [h('dt', { text: name }), h('dd', { text: value })]));
}

// A number that may be left to the model: an empty field is the default, which is shown in its place.
function fieldRow({ name, min, max, step, slider }, info, settings, changed) {
  const usual = info.defaults[name];
  const id = `set-${name}`;
  const hint = h('span', { class: 'setting-hint', id: `${id}-hint` });
  const field = h('input', { class: 'field number', type: 'number', inputmode: 'decimal', id, min, max: max ?? info.context, step: slider ? 'any' : step, 'aria-describedby': `${id}-hint`,
    placeholder: usual === undefined || usual === null ? t(`${name}_usual`) : String(usual), value: settings[name] ?? '' });
  const range = slider ? h('input', { type: 'range', min, max, step, 'aria-label': t(name), tabindex: '-1', value: settings[name] ?? usual ?? 1 }) : null;
  const take = (text) => {
    const value = Number(text);
    const high = max ?? info.context ?? Infinity;
    const wrong = text !== '' && (!Number.isFinite(value) || value < min || value > high || (step === 1 && !Number.isInteger(value)));
    field.setAttribute('aria-invalid', String(wrong));
    hint.textContent = wrong ? t('out_of_range', { min: number(min), max: number(high) }) : t(`${name}_hint`);
    hint.classList.toggle('wrong', wrong);
    if (wrong) return;
    if (text === '') delete settings[name];
    else settings[name] = value;
    changed(settings);
  };
  field.addEventListener('input', () => {
    take(field.value);
    if (range !== null && field.value !== '') range.value = field.value;
  });
  range?.addEventListener('input', () => {
    field.value = range.value;
    take(range.value);
  });
  hint.textContent = t(`${name}_hint`);
  return h('div', { class: 'setting' }, h('label', { for: id, text: t(name) }), h('div', { class: 'setting-row' }, range, field), hint);
}

function choice(name, label, current, options, chosen) {
  const buttons = options.map(([value, text]) => h('label', { class: 'segment' },
    h('input', { type: 'radio', name, value, checked: value === current, on: { change: () => chosen(value) } }), h('span', { text })));
  return h('fieldset', { class: 'setting' }, h('legend', { text: label }), h('div', { class: 'segments' }, ...buttons));
}

function keyRow(keyChanged) {
  const field = h('input', { class: 'field', type: 'password', id: 'set-key', autocomplete: 'off', value: storedKey() ?? '' });
  field.addEventListener('change', () => {
    storeKey(field.value.trim());
    keyChanged();
  });
  return h('div', { class: 'setting' }, h('label', { for: 'set-key', text: t('key') }), field, h('span', { class: 'setting-hint', text: t('key_hint') }));
}
