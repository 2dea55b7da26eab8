/** Signals and closed streams, on a real process whose run is made up. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { afterEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ENTRY = fileURLToPath(new URL('./support/train-process.js', import.meta.url));
const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

const ALARM = { timeout: 30_000 };
const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

function start(entry: string, words: readonly string[], stdout: 'pipe' | number = 'pipe') {
  const child = spawn(process.execPath, [entry, ...words], { stdio: ['ignore', stdout, 'pipe'] });
  children.push(child);
  const texts = { stdout: '', stderr: '' };
  child.stdout?.on('data', (chunk: Buffer) => (texts.stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (texts.stderr += chunk.toString()));
  return { child, texts };
}

/** When `text` stands on standard error. The header does, once the run has begun. */
async function said(child: ChildProcess, texts: { readonly stderr: string }, text: string): Promise<void> {
  const ended = once(child, 'close').then(() => assert.fail(`ended without ${JSON.stringify(text)}: ${texts.stderr}`));
  while (!texts.stderr.includes(text)) await Promise.race([once(child.stderr!, 'data'), ended]);
  ended.catch(() => undefined); // from here on the end is expected
}

async function exitOf(child: ChildProcess): Promise<unknown[]> {
  return once(child, 'close');
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`the first ${signal} asks for a stop after the step: exit code 75`, ALARM, async () => {
    const { child, texts } = start(ENTRY, ['obey', '--config', 'resnet20']);
    await said(child, texts, 'dtrain 9.9.9');
    child.kill(signal);
    assert.deepEqual(await exitOf(child), [75, null]);
    assert.match(
      texts.stderr,
      new RegExp(`\n${signal}: stopping after this step\\. Once more to stop at once\\.\nstopped by ${signal}\n$`),
    );
  });

  test(`the second ${signal} ends the process: exit code ${signal === 'SIGINT' ? 130 : 143}`, ALARM, async () => {
    const { child, texts } = start(ENTRY, ['ignore', '--config', 'resnet20']);
    await said(child, texts, 'dtrain 9.9.9');
    child.kill(signal);
    await said(child, texts, 'Once more');
    child.kill(signal);
    assert.deepEqual(await exitOf(child), [signal === 'SIGINT' ? 130 : 143, null]);
  });
}

test('a closed terminal stops nothing', ALARM, async () => {
  const { child, texts } = start(ENTRY, ['obey', '--config', 'resnet20']);
  await said(child, texts, 'dtrain 9.9.9');
  child.kill('SIGHUP');
  child.kill('SIGTERM');
  assert.deepEqual(await exitOf(child), [75, null]);
});

test('a reader of the events that goes away ends no run, and is told once', ALARM, async () => {
  const { child, texts } = start(ENTRY, ['print', '--config', 'resnet20', '--json']);
  await once(child.stdout!, 'data');
  child.stdout!.destroy();
  assert.deepEqual(await exitOf(child), [0, null]);
  assert.equal(texts.stderr, 'standard output takes nothing more (EPIPE); the run goes on without it.\n');
});

test('a full disk under standard output ends no run', ALARM, async () => {
  const full = fs.openSync('/dev/full', 'w');
  const { child, texts } = start(ENTRY, ['print', '--config', 'resnet20', '--json'], full);
  assert.deepEqual(await exitOf(child), [0, null]);
  assert.equal(texts.stderr, 'standard output takes nothing more (ENOSPC); the run goes on without it.\n');
  fs.closeSync(full);
});

test('a pipe gets every byte before the command ends', ALARM, async () => {
  const { child, texts } = start(MAIN, ['config', 'docs']);
  assert.deepEqual(await exitOf(child), [0, null]);
  assert.match(texts.stdout, /## cluster\n/);
});
