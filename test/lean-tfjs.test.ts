/** tfjs without the backends for browsers: all the rest is there, and who asks for a backend afterwards gets the real one. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { loadLeanTfjs } from '../src/graph/lean-tfjs.js';

test('layers and converter are there, the backends only for who asks', async () => {
  loadLeanTfjs();
  const { tf } = await import('../src/graph/tfjs.js'); // the same tfjs, not another
  assert.deepEqual(Object.keys(tf.engine().registryFactory), []);
  for (const name of ['tensor', 'layers', 'loadGraphModel', 'data', 'grads'] as const) assert.ok(tf[name], name);
  const require = createRequire(import.meta.url);
  const { version_cpu } = createRequire(require.resolve('@tensorflow/tfjs'))('@tensorflow/tfjs-backend-cpu') as {
    version_cpu: string;
  };
  assert.equal(version_cpu, tf.version_core);
  assert.deepEqual(Object.keys(tf.engine().registryFactory), ['cpu']);
  await tf.setBackend('cpu');
  assert.deepEqual([...tf.add(tf.tensor1d([1, 2]), 1).dataSync()], [2, 3]);
});
