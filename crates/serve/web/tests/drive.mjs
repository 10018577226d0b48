// A real Chromium uses the page; how to run it stands in `docs/page.md`.
//
// With a stand-in server by default; with `PAGE_URL` set, the steps that any server can answer run against it.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { standIn } from './stand_in.mjs';

// Installed wherever one likes, as the page itself needs nothing.
const { chromium } = await import(process.env.PLAYWRIGHT ?? 'playwright-core');
const real = process.env.PAGE_URL ?? null;
const shots = process.env.PAGE_SHOTS ?? null;
const server = real === null ? await standIn() : { url: real, state: null, close() {} };
const { url, state } = server;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
const wanted = process.argv.slice(2);
let failures = 0;

/** Opens the page in a fresh profile; errors of the page fail the step. */
async function open(options = {}, hash = '#/') {
  const context = await browser.newContext({ viewport: { width: 1200, height: 850 }, permissions: ['clipboard-read', 'clipboard-write'], ...options });
  const page = await context.newPage();
  page.errors = [];
  page.on('pageerror', (error) => page.errors.push(error.stack));
  page.on('console', (message) => { if (/Content Security Policy|Refused to/.test(message.text())) page.errors.push(message.text()); });
  page.on('request', (request) => { if (!request.url().startsWith(url) && !/^(blob|data):/.test(request.url())) page.errors.push(`asked ${request.url()}`); });
  await page.goto(url + hash);
  await page.waitForSelector('#composer-row .switch', { timeout: 30_000 });
  return page;
}

async function done(page, timeout = 300_000) {
  await page.waitForSelector('.answer.last[aria-busy=false]', { timeout });
}

async function ask(page, question, wait = true) {
  const before = await page.locator('.answer').count();
  await page.fill('#question', question);
  await page.press('#question', 'Enter');
  await page.waitForFunction((n) => document.querySelectorAll('.answer').length > n, before, { timeout: 10_000 });
  if (wait) await done(page);
}

const last = (page, selector) => page.locator(`.answer.last ${selector}`);

async function shot(page, name) {
  if (shots === null) return;
  fs.mkdirSync(shots, { recursive: true });
  await page.waitForTimeout(250);
  await page.screenshot({ path: path.join(shots, `${name}.png`) });
}

async function step(name, run, { scripted = false, ...options } = {}) {
  if ((scripted && real !== null) || (wanted.length > 0 && !wanted.some((part) => name.includes(part)))) return;
  const began = performance.now();
  const page = await open(options);
  try {
    await run(page);
    assert.deepEqual(page.errors, []);
    console.log(`ok   ${name} (${Math.round(performance.now() - began)} ms)`);
  } catch (error) {
    failures++;
    console.log(`FAIL ${name}\n${error.stack}`);
    await page.screenshot({ path: path.join(shots ?? '.', 'failed.png') }).catch(() => {});
  }
  await page.context().close();
}

await step('a question is answered, kept, and there after a reload', async (page) => {
  await shot(page, 'welcome');
  await ask(page, 'Hello, who are you?');
  assert.match(page.url(), /#\/c\/.+/);
  const text = await last(page, '.answer-text').innerText();
  assert.ok(text.length > 0);
  assert.match(await last(page, '.figures').innerText(), /tokens/);
  await page.reload();
  await page.waitForSelector('.answer.last');
  assert.equal(await last(page, '.answer-text').innerText(), text);
  assert.equal(await page.locator('#list a[aria-current=page]').innerText(), 'Hello, who are you?');
});

await step('stop ends an answer, and the next one begins', async (page) => {
  if (state !== null) state.delay_ms = 40;
  await ask(page, 'Tell me everything, slowly and at length', false);
  await page.waitForFunction(() => [...document.querySelectorAll('.answer.last .markdown')].some((one) => one.textContent.length > 8), null, { timeout: 120_000 });
  await page.keyboard.press('Escape');
  await done(page, 5000);
  if (state !== null) state.delay_ms = 1;
  // A quick model may be done before the key is pressed.
  if (state !== null) assert.match(await last(page, '.status').innerText(), /Stopped/);
  await ask(page, 'And now a short one');
});

await step('questions are edited and answers asked again as branches', async (page) => {
  await ask(page, 'First wording');
  await last(page, '[data-name=again]').click();
  await page.waitForSelector('.answer.last .branches');
  await done(page);
  assert.equal(await last(page, '.branches span').innerText(), '2 / 2');
  await page.hover('.question');
  await page.click('.question [aria-label=Edit]');
  await page.fill('.edit-area', 'Second wording');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.question .branches');
  await done(page);
  assert.equal(await page.locator('.question-text').innerText(), 'Second wording');
  await page.click('.question .branches button:first-child');
  assert.equal(await page.locator('.question-text').innerText(), 'First wording');
  assert.equal(await last(page, '.branches span').innerText(), '2 / 2');
  await page.waitForTimeout(300);
  await page.reload();
  await page.waitForSelector('.question .branches');
  assert.equal(await page.locator('.question-text').innerText(), 'First wording');
});

await step('conversations are found, renamed, exported, deleted and brought back', async (page) => {
  await ask(page, 'Needle in the haystack');
  await page.click('#conversation-menu');
  await page.keyboard.press('Enter');
  await page.fill('dialog input', 'Renamed');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('#title').textContent === 'Renamed');
  await page.fill('#search', 'haystack');
  await page.waitForFunction(() => document.querySelectorAll('#list a').length === 1);
  const download = page.waitForEvent('download');
  await page.click('#conversation-menu');
  await page.click('.menu >> text=Markdown');
  assert.equal((await download).suggestedFilename(), 'Renamed.md');
  await page.click('#conversation-menu');
  await page.click('.menu .danger');
  await page.waitForFunction(() => document.querySelectorAll('#list a').length === 0);
  await page.click('.toast >> text=Undo');
  await page.waitForSelector('#list a[aria-current=page]');
  await page.click('#conversation-menu');
  await page.click('.menu .danger');
  await page.click('.toast [aria-label=Close]');
  await page.waitForTimeout(300);
  await page.reload();
  await page.waitForSelector('#list .list-empty, #list a');
  assert.equal(await page.locator('#list a >> text=Renamed').count(), 0);
});

await step('thinking is open while it goes on and folded afterwards', async (page) => {
  state.delay_ms = 30;
  await page.click('.switch >> text=DeepThink');
  await ask(page, 'Think first', false);
  await page.waitForSelector('.answer.last .thinking.open');
  await done(page);
  state.delay_ms = 1;
  assert.match(await last(page, '.thinking-button').innerText(), /Thought for \d+ s/);
  assert.ok(!await last(page, '.thinking-text').isVisible());
  await last(page, '.thinking-button').click();
  assert.match(await last(page, '.thinking-text').innerText(), /The user asks/);
  await ask(page, 'Once more');
  const { body } = state.asked[state.asked.length - 1];
  assert.equal(body.thinking.type, 'enabled');
  assert.ok(body.messages.every((message) => message.reasoning_content === undefined));
}, { scripted: true });

await step('Markdown, formulas, tables and code are shown', async (page) => {
  await ask(page, 'everything');
  for (const selector of ['h2', 'math', 'math mfrac', '.boxed', 'table .to-right', 'ol ol, ol ul ol', '.hl-keyword', '.task.done', 'blockquote blockquote', 'del', 'a[rel~=noopener]']) {
    assert.ok(await last(page, `.answer-text ${selector}`).count() > 0, selector);
  }
  await last(page, '.code-copy').click();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^\/\/\/ Merges two/);
  await page.evaluate(() => { document.querySelector('#scroller').scrollTop = 0; });
  await shot(page, 'markdown');
}, { scripted: true });

await step('nothing that a model writes is executed or fetched', async (page) => {
  await ask(page, 'attacks', false);
  await done(page);
  await page.waitForTimeout(500);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.equal(await page.locator('.answer :is(script, img, iframe, style, object, embed, form)').count(), 0);
  assert.equal(await page.locator('.answer-text svg:not(.icon)').count(), 0);
  const links = await last(page, '.answer-text a').evaluateAll((all) => all.map((link) => [link.protocol, link.rel, link.target]));
  for (const [protocol, rel, target] of links) {
    assert.equal(protocol, 'https:');
    assert.match(rel, /noopener/);
    assert.equal(target, '_blank');
  }
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'the page scrolls sideways');
  // The same as a question, a title and a name of a file.
  await page.setInputFiles('input[type=file]', { name: '<img src=x onerror=window.pwned=1>.txt', mimeType: 'text/plain', buffer: Buffer.from('</script><script>window.pwned=2</script>') });
  await page.waitForSelector('.chip');
  await ask(page, '<img src=x onerror="window.pwned=30"> hello');
  assert.equal(await page.evaluate(() => window.pwned), undefined);
}, { scripted: true });

await step('tokens are explained, for an answer of thousands of them too', async (page) => {
  await page.click('.switch >> text=Explain');
  await ask(page, 'everything');
  await page.waitForSelector('.token');
  await page.focus('.tokens');
  await page.keyboard.press('n');
  assert.match(await page.locator('.card').innerText(), /%/);
  assert.equal(await page.locator('.card canvas').count(), 1);
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowDown');
  await shot(page, 'explain');
  await page.keyboard.press('Escape');
  assert.ok(!await page.locator('.card').isVisible());
  assert.equal(await page.locator('.heat canvas').count(), 1);
  await page.click('.switch >> text=Explain');
  await ask(page, 'attacks');
  const words = await last(page, '.answer-text').textContent();
  await last(page, '[data-name=explain]').click();
  await page.waitForSelector('.answer.last .heat');
  assert.ok(await last(page, '.token').count() > 2000);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  const slow = await page.evaluate(async () => {
    const box = document.querySelector('.answer.last .tokens');
    box.focus();
    const began = performance.now();
    for (let i = 0; i < 100; i++) box.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }));
    return (performance.now() - began) / 100;
  });
  assert.ok(slow < 30, `${slow} ms for a step`);
  console.log(`     a step over ${await last(page, '.token').count()} tokens takes ${slow.toFixed(1)} ms`);
  await last(page, '[data-name=explain]').click();
  assert.equal(await last(page, '.answer-text').textContent(), words);
}, { scripted: true });

await step('text files go along, others are refused', async (page) => {
  await page.setInputFiles('input[type=file]', [{ name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('深度 notes') }, { name: 'photo.png', mimeType: 'image/png', buffer: Buffer.from([137, 80, 78, 71, 0, 0]) }]);
  await page.waitForSelector('.toast');
  assert.match(await page.locator('.toast').innerText(), /photo\.png is not a text file/);
  await page.waitForSelector('.composer .chip');
  await ask(page, 'What does it say?');
  if (state !== null) assert.equal(state.asked[state.asked.length - 1].body.messages[0].content, '[file name]: notes.txt\n[file content begin]\n深度 notes\n[file content end]\nWhat does it say?');
  assert.equal(await page.locator('.question-text').innerText(), 'What does it say?');
  assert.match(await page.locator('.question .chip').innerText(), /notes\.txt/);
});

await step('settings are sent, and wrong ones are not', async (page) => {
  await page.click('#topbar-end [aria-label=Settings]');
  await page.fill('#set-system', 'Be brief.');
  await page.fill('#set-temperature', '0.2');
  await page.fill('#set-seed', '7');
  await page.fill('#set-top_p', '7');
  await page.keyboard.press('Escape');
  await ask(page, 'Hello');
  const { body } = state.asked[state.asked.length - 1];
  assert.deepEqual([body.temperature, body.seed, body.top_p, body.messages[0].content], [0.2, 7, undefined, 'Be brief.']);
}, { scripted: true });

await step('refusals, full queues, full contexts and breaks are told', async (page) => {
  await ask(page, 'this is refused');
  assert.match(await last(page, '.status').innerText(), /`temperature` is 9/);
  await ask(page, 'this is too long');
  assert.match(await last(page, '.status').innerText(), /Start a new chat/);
  await ask(page, 'please break');
  assert.match(await last(page, '.status').innerText(), /the engine failed/);
  await ask(page, 'please cut');
  await page.click('text=Continue');
  await page.waitForFunction(() => /the rest/.test(document.querySelector('.answer.last').textContent));
  await done(page);
  assert.equal(state.asked[state.asked.length - 1].path, '/beta/chat/completions');
  await ask(page, 'are you busy', false);
  await page.waitForSelector('.status.warn');
  assert.match(await last(page, '.status').innerText(), /Trying again in \d s/);
  await shot(page, 'errors');
  await done(page);
  assert.match(await last(page, '.answer-text').innerText(), /short answer/);
}, { scripted: true });

await step('a server that goes and comes back is noticed', async (page) => {
  await ask(page, 'please die');
  assert.match(await last(page, '.status').innerText(), /connection/i);
  state.down = true;
  await page.waitForSelector('#banner:not([hidden])');
  await page.waitForTimeout(2500);
  await shot(page, 'gone');
  state.down = false;
  await page.waitForSelector('#banner', { state: 'hidden', timeout: 30_000 });
  await page.click('text=Try again');
  await page.waitForSelector('.answer.last .branches');
}, { scripted: true });

await step('a key is asked for and kept', async (page) => {
  state.key = 'secret';
  await page.reload();
  await page.waitForSelector('dialog[open] input');
  await page.fill('dialog input', 'secret');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#composer-row .switch');
  await ask(page, 'Hello with a key');
  state.key = null;
}, { scripted: true });

await step('everything can be done by keys', async (page) => {
  await page.keyboard.press('Control+k');
  await page.keyboard.type('First line');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('second line');
  await page.reload();
  await page.waitForSelector('#composer-row .switch');
  assert.equal(await page.inputValue('#question'), 'First line\nsecond line');
  await page.focus('#question');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.answer.last');
  await done(page);
  await page.focus('#question');
  await page.keyboard.press('ArrowUp');
  await page.waitForSelector('.edit-area');
  await page.keyboard.press('Escape');
  await page.waitForSelector('.edit-area', { state: 'detached' });
  await page.keyboard.press('?');
  await page.waitForSelector('dialog[open]');
  await page.keyboard.press('Escape');
  const unnamed = await page.locator('button, a, input, textarea, [role=switch]').evaluateAll((all) => all.filter((one) => one.offsetParent !== null && !(one.innerText?.trim() || one.getAttribute('aria-label') || one.labels?.length || one.getAttribute('aria-hidden'))).map((one) => one.outerHTML.slice(0, 120)));
  assert.deepEqual(unnamed, []);
});

await step('the reader is never pulled down', async (page) => {
  state.delay_ms = 15;
  await ask(page, 'everything', false);
  await page.waitForFunction(() => document.querySelector('#scroller').scrollHeight > innerHeight + 300, null, { timeout: 60_000 });
  await page.mouse.move(600, 400);
  await page.mouse.wheel(0, -250);
  await page.waitForTimeout(200);
  const before = await page.evaluate(() => document.querySelector('#scroller').scrollTop);
  await page.waitForTimeout(600);
  assert.ok(Math.abs(await page.evaluate(() => document.querySelector('#scroller').scrollTop) - before) < 2);
  await page.click('#to-bottom');
  state.delay_ms = 1;
  await done(page);
  await page.waitForTimeout(400);
  assert.ok(await page.evaluate(() => { const s = document.querySelector('#scroller'); return s.scrollHeight - s.scrollTop - s.clientHeight < 40; }));
}, { scripted: true });

await step('it fits a phone', async (page) => {
  assert.ok(!await page.locator('#sidebar').isVisible());
  await ask(page, state === null ? 'Hello from a phone' : 'everything');
  const wide = await page.evaluate(() => [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && one.closest('pre, .table-frame, .math-block') === null).map((one) => one.outerHTML.slice(0, 90)));
  assert.deepEqual(wide, []);
  assert.equal(await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth].join()), '390,390');
  await shot(page, 'phone');
  await page.click('#side-toggle');
  await page.waitForFunction(() => !document.querySelector('#sidebar').inert);
  await shot(page, 'phone-side');
  await page.keyboard.press('Escape');
}, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });

await step('it is dark where the system is', async (page) => {
  await ask(page, state === null ? 'Hello in the dark' : 'everything');
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
  await shot(page, 'dark');
}, { colorScheme: 'dark' });

await browser.close();
server.close();
console.log(failures === 0 ? 'all steps passed' : `${failures} steps failed`);
process.exitCode = failures === 0 ? 0 : 1;
