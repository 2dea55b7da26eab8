/** npm run test:gpu where there is no GPU: it says why it does nothing, and ends well. With --cpus it is run by hand (docs/performance.md). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

function runScript(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, ['scripts/test-gpu.mjs', ...words], { cwd: root, encoding: 'utf8' });
}

const hasDriver = fs.existsSync('/proc/driver/nvidia/version') || fs.existsSync('/dev/nvidiactl');

test('without a driver it is skipped, with the reason', { skip: hasDriver && 'there is a driver' }, () => {
  const { status, stdout } = runScript();
  assert.equal(status, 0);
  assert.equal(
    stdout,
    'test:gpu: skipped: no NVIDIA driver is loaded on this machine. With --cpus N it runs on CPU devices.\n',
  );
});

test('a number that is none', () => {
  const { status, stderr } = runScript('--cpus', 'two');
  assert.equal(status, 2);
  assert.equal(stderr, 'test:gpu: --cpus: expected a whole number from 1 to 64, got "two".\n');
});
