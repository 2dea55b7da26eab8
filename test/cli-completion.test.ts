/** Shell completion: the candidates, and bash itself asking for them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { candidates } from '../src/cli/completion-command.js';

for (const [line, expected] of [
  ['dtrain ev', ['eval', 'evaluation.everyEpochs=', 'evaluation.flip=']],
  ['dtrain bench s', ['step', 'scaling']],
  ['dtrain export runs/a --f', ['--format', '--fold']],
  ['dtrain export runs/a --format s', ['safetensors', 'saved-model']],
  ['dtrain --config resnet5', ['resnet50', 'resnet56']],
  ['dtrain --config resnet20 schedule.l', ['schedule.learningRate=']],
  ['dtrain --config resnet20 model.stem=', ['model.stem=cifar', 'model.stem=imagenet']],
  ['dtrain --config resnet20 --gp', ['--gpus']],
  ['dtrain nothing-like-it x', []],
] as const) {
  test(`${line}…`, () => assert.deepEqual(candidates(line), expected));
}

test('bash asks, and completes', () => {
  const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
  const script = `
    dtrain() { '${process.execPath}' '${main}' "$@"; }
    source <(dtrain completion bash)
    COMP_LINE='dtrain pred' COMP_POINT=11 COMP_CWORD=1 COMP_WORDS=(dtrain pred)
    _dtrain 2>/dev/null
    echo "\${COMPREPLY[@]}"`;
  assert.equal(execFileSync('bash', ['-c', script]).toString(), 'predict\n');
});
