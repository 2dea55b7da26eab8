/** Each export, run by the program it is made for, gives the logits of dtrain: relative error at most 1e-4. Run by npm run test:consumers. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { encodePng } from '../../src/core/png.js';
import { exportCheckpoint } from '../../src/run/export-checkpoint.js';
import { predictImages } from '../../src/run/predict.js';
import { openCheckpoint } from '../../src/train/checkpoint.js';
import { assertClose } from '../support/assert-close.js';
import { Chromium } from '../support/chromium.js';
import { runTraining, temporaryFolder } from '../support/train-run.js';
import { root, runPython } from './python.js';

const COUNT = 12;
const TOLERANCE = 1e-4;
const IMAGE_BYTES = 32 * 32 * 3;

interface Case {
  readonly folder: string;
  readonly images: Uint8Array;
  /** dtrain's own, [COUNT, 10]. */
  readonly logits: Float32Array;
  readonly probabilities: Float64Array;
  readonly classes: readonly string[];
}

const cases = new Map<string, Case>();

/** A short run, its exports, and what dtrain itself makes of some images. */
async function makeCase(model: string): Promise<Case> {
  const overrides = [`model={name: ${model}, stem: imagenet}`, 'train.maxSteps=12', 'evaluation.everyEpochs=0'];
  const { runDir } = await runTraining(1, overrides);
  const folder = temporaryFolder();
  const images = Uint8Array.from({ length: COUNT * IMAGE_BYTES }, (_, i) => (i * 7919 + (i >> 5) * 31) % 256);
  fs.writeFileSync(path.join(folder, 'images.bin'), images);
  const { normalization } = openCheckpoint(runDir).state;
  fs.writeFileSync(path.join(folder, 'state.json'), JSON.stringify(normalization));
  const files = Array.from({ length: COUNT }, (_, i) => {
    const file = path.join(folder, `${i}.png`);
    fs.writeFileSync(file, encodePng(images.subarray(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES), 32, 32));
    return file;
  });
  const options = { checkpoint: runDir, fold: false } as const;
  for (const format of ['safetensors', 'tfjs', 'saved-model', 'onnx'] as const) {
    await exportCheckpoint({ ...options, format, out: path.join(folder, format) });
    if (format === 'safetensors') continue;
    await exportCheckpoint({ ...options, format, out: path.join(folder, `${format}-folded`), fold: true });
  }
  const { predictions, classes } = await predictImages({ checkpoint: runDir, images: files });
  const joined = <T extends number>(of: (i: number) => Iterable<T>) => predictions.flatMap((_, i) => [...of(i)]);
  return {
    folder,
    images,
    classes,
    logits: Float32Array.from(joined((i) => predictions[i]!.logits)),
    probabilities: Float64Array.from(joined((i) => predictions[i]!.probabilities)),
  };
}

const MODELS = ['resnet20', 'resnet18', 'speednet'];

before(async () => {
  for (const model of MODELS) cases.set(model, await makeCase(model));
});

function report(what: string, error: number, versions: unknown): void {
  console.log(`${what}: relative error ${error.toExponential(1)} (${JSON.stringify(versions)})`);
}

for (const model of MODELS) {
  test(`${model}: TensorFlow in Python and ONNX Runtime`, () => {
    const { folder, logits, classes } = cases.get(model)!;
    const found = runPython('DTRAIN_TENSORFLOW_PYTHON', 'graph_logits.py', [folder, String(COUNT)]);
    for (const name of ['saved-model', 'saved-model-folded', 'onnx', 'onnx-folded']) {
      const error = assertClose(found[name] as number[], logits, TOLERANCE, name);
      report(`${model} ${name}`, error, found['versions']);
    }
    assert.deepEqual(found['classes'], classes);
  });

  test(`${model}: PyTorch${model === 'resnet18' ? ' and torchvision' : ''}, weights loaded strictly`, () => {
    const { folder, logits } = cases.get(model)!;
    const found = runPython('DTRAIN_TORCH_PYTHON', 'torch_logits.py', [folder, String(COUNT), model]);
    report(
      `${model} safetensors`,
      assertClose(found['logits'] as number[], logits, TOLERANCE, model),
      found['versions'],
    );
  });
}

// ——— the browser ———

let server: ChildProcess | undefined;
let browser: Chromium | undefined;
after(async () => {
  server?.kill();
  await browser?.close();
});

async function serve(folder: string): Promise<string> {
  server?.kill();
  server = spawn(process.execPath, [path.join(root, 'examples/browser/serve.mjs'), folder, '0']);
  const [line] = (await once(server.stdout!, 'data')) as [Buffer];
  return line.toString().trim();
}

for (const [model, format] of [
  ['resnet20', 'tfjs'],
  ['resnet20', 'tfjs-folded'],
  ['resnet18', 'tfjs'],
  ['resnet18', 'tfjs-folded'],
  ['speednet', 'tfjs-folded'],
] as const) {
  test(`${model} ${format}: the page of examples/browser in Chromium, offline, on tfjs`, async () => {
    const { folder, images, logits, probabilities, classes } = cases.get(model)!;
    const url = await serve(path.join(folder, format));
    browser ??= new Chromium();
    const page = await browser.open(url);
    const pixels = Buffer.from(images).toString('base64');
    const found = await page.evaluate<number[]>(`(async () => {
      while (!globalThis.example) await new Promise((resolve) => setTimeout(resolve, 20));
      const bytes = Uint8Array.from(atob(${JSON.stringify(pixels)}), (c) => c.charCodeAt(0));
      const found = [];
      for (let i = 0; i < ${COUNT}; i++) {
        const rgba = new Uint8ClampedArray(32 * 32 * 4).fill(255);
        for (let p = 0; p < 1024; p++) rgba.set(bytes.subarray(i * 3072 + 3 * p, i * 3072 + 3 * p + 3), 4 * p);
        found.push(...example.classify(new ImageData(rgba, 32, 32), 'logits'));
      }
      return found;
    })()`);
    const version = await page.evaluate<string>('tf.version.tfjs + " " + tf.getBackend()');
    report(`${model} ${format}`, assertClose(found, logits, TOLERANCE, format), { tfjs: version });

    // What a person does: choose a file, read the table.
    const { root: document } = (await page.send('DOM.getDocument')) as { root: { nodeId: number } };
    const input = { nodeId: document.nodeId, selector: '#file' };
    const { nodeId } = (await page.send('DOM.querySelector', input)) as { nodeId: number };
    await page.send('DOM.setFileInputFiles', { nodeId, files: [path.join(folder, '0.png')] });
    const top = classes[probabilities.subarray(0, 10).indexOf(Math.max(...probabilities.subarray(0, 10)))];
    const text = await page.evaluate<string>(`(async () => {
      while (!document.querySelector('#result tr')) await new Promise((resolve) => setTimeout(resolve, 20));
      return document.querySelector('#status').textContent + '|' + document.querySelectorAll('#result tr').length;
    })()`);
    assert.equal(text, `0.png: ${top}|10`);

    // Without a network, and by dropping the file.
    await page.send('Network.emulateNetworkConditions', {
      offline: true,
      latency: 0,
      downloadThroughput: 0,
      uploadThroughput: 0,
    });
    const png = fs.readFileSync(path.join(folder, '1.png')).toString('base64');
    const shown = await page.evaluate<[string, string][]>(`(async () => {
      const bytes = Uint8Array.from(atob(${JSON.stringify(png)}), (c) => c.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], '1.png', { type: 'image/png' }));
      document.querySelector('#drop').dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
      while (!document.querySelector('#status').textContent.startsWith('1.png')) await new Promise((resolve) => setTimeout(resolve, 20));
      return [...document.querySelectorAll('#result tr')].map((row) => [row.cells[0].textContent, row.cells[2].textContent]);
    })()`);
    assert.deepEqual(shown.map(([name]) => name).sort(), [...classes].sort());
    const percents = shown.map(([, percent]) => Number.parseFloat(percent));
    assert.deepEqual(
      percents,
      percents.toSorted((a, b) => b - a),
      'the most probable first',
    );
    for (const [i, [name]] of shown.entries()) {
      const own = 100 * probabilities[10 + classes.indexOf(name)]!;
      assert(Math.abs(percents[i]! - own) < 0.06, `${name}: ${percents[i]} % on the page, ${own} % here`);
    }
    assert.deepEqual(page.complaints, []);
    assert(page.requests.length > 3);
    for (const request of page.requests) assert(request.startsWith(url), `${request} leaves the machine`);
  });
}
