import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Console } from '../src/cli/console.js';
import {
  bandwidthText,
  countText,
  durationText,
  percentText,
  rateText,
  shortText,
  tableText,
} from '../src/cli/number-text.js';
import { RunPrinter } from '../src/cli/run-printer.js';
import { loadConfig } from '../src/config/load.js';
import type { TrainEvent } from '../src/core/events.js';
import { END_EVENT, evaluationEvent, RUN_EVENT, stepEvent } from './support/events.js';
import { TextStream, terminal } from './support/run-command.js';

interface Screen {
  readonly columns?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly isQuiet?: boolean;
  readonly isJson?: boolean;
}

/** A console and a printer on a terminal of so many columns, or on no terminal, with a clock that the test moves. */
function screen({ columns, env = {}, isQuiet = false, isJson = false }: Screen) {
  const stdout = new TextStream();
  const stderr = columns === undefined ? new TextStream() : terminal(columns);
  const console = new Console({ stdout, stderr, env, isQuiet, isJson });
  const clock = { seconds: 0 };
  const printer = new RunPrinter(
    console,
    loadConfig({ file: 'quickstart', overrides: ['train.globalBatch=128'] }),
    () => clock.seconds,
  );
  return { stdout, stderr, console, printer, clock };
}

function progress(step: number, imagesPerSecond = 612.3) {
  return { step, totalSteps: 782, epoch: (step * 128) / 50_000, loss: 1.6234, trainAccuracy: 0.4111, imagesPerSecond };
}

/** The line that a terminal shows after all of `text` was written. */
function visible(text: string): string {
  return text.split('\n').at(-1)!.split('\r').at(-1)!.replace('\x1b[K', '');
}

// ——— streams ———

test('results go to standard output, all else to standard error', () => {
  const { console, stdout, stderr } = screen({});
  console.out('result');
  console.say('for people');
  console.complain('trouble');
  assert.deepEqual([stdout.text, stderr.text], ['result\n', 'for people\ntrouble\n']);
});

test('--quiet and --json drop what is for people, but no complaint', () => {
  for (const options of [{ isQuiet: true }, { isJson: true }]) {
    const { console, stdout, stderr } = screen(options);
    console.say('for people');
    console.complain('trouble');
    console.json({ a: 1 });
    assert.deepEqual([stdout.text, stderr.text], ['{"a":1}\n', 'trouble\n']);
  }
});

test('colours and the live line are for a person at a terminal only', () => {
  const isLive = (options: Screen) => screen(options).console.isLive;
  assert.equal(isLive({ columns: 80 }), true);
  assert.equal(isLive({}), false);
  for (const env of [{ NO_COLOR: '1' }, { CI: 'true' }, { TERM: 'dumb' }]) {
    assert.equal(isLive({ columns: 80, env }), false);
    assert.equal(screen({ columns: 80, env }).console.styled('bold', 'x'), 'x');
  }
  assert.equal(screen({ columns: 80 }).console.styled('bold', 'x'), '\x1b[1mx\x1b[22m');
});

test('a line that is said wipes the live line first', () => {
  const { console, stderr } = screen({ columns: 80 });
  console.live('working');
  console.say('said');
  console.say('more');
  assert.equal(stderr.text, '\rworking\x1b[K\r\x1b[Ksaid\nmore\n');
});

test('a closed stream is told once, on the other one, and nothing more is written to it', () => {
  const { console, stdout, stderr } = screen({});
  stdout.emit('error', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  stdout.emit('error', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  console.out('lost');
  assert.deepEqual(
    [stdout.text, stderr.text],
    ['', 'standard output takes nothing more (EPIPE); the run goes on without it.\n'],
  );
});

// ——— a run ———

const EVENTS: readonly TrainEvent[] = [
  RUN_EVENT,
  stepEvent(50, 0.128),
  stepEvent(391, 1.00096),
  evaluationEvent(391, 1),
  { event: 'checkpoint', step: 391, path: 'runs/quickstart-1/checkpoints/step-391' },
  stepEvent(782, 2.00192),
  END_EVENT,
];

const HEADER = [
  'dtrain 9.9.9: resnet20, 272,474 parameters, bfloat16',
  '  devices  2 CPU workers',
  '  data     cifar10, 50,000 training and 10,000 test images',
  '  batch    128 images a step: 2 x 64',
  '  steps    782: 2 epochs of 391',
  '  run      runs/quickstart-1',
];
const CLOSING =
  'test accuracy 61.2 %, best 62.0 %; 782 steps, 2 epochs, 2:50, 600 images/s\n' +
  '  run          runs/quickstart-1\n' +
  '  report       runs/quickstart-1/report.html\n' +
  '  checkpoints  runs/quickstart-1/checkpoints (last, best)\n' +
  '  TensorBoard  tensorboard --logdir runs/quickstart-1\n' +
  '  next         dtrain eval runs/quickstart-1\n' +
  '               dtrain predict runs/quickstart-1 IMAGE...\n' +
  '               dtrain export runs/quickstart-1 --format onnx --out resnet20.onnx\n';

test('a run without a terminal: header, a line every five seconds, a line an epoch, closing lines', () => {
  const { printer, stdout, stderr, clock } = screen({});
  printer.event(EVENTS[0]!);
  for (let step = 1; step <= 120; step++) {
    clock.seconds = step * 0.1;
    printer.progress(progress(step));
    if (step === 50) printer.event(EVENTS[1]!);
  }
  for (const event of EVENTS.slice(2)) printer.event(event);
  assert.equal(
    stderr.text,
    [
      ...HEADER,
      'epoch 1/2  step   1/782  loss 1.623  accuracy 41.1 %  612 images/s  2:43 left',
      '  time     about 2:41 to go, at 612 images/s',
      'epoch 1/2  step  51/782  loss 1.623  accuracy 41.1 %  612 images/s  2:33 left',
      'epoch 1/2  step 101/782  loss 1.623  accuracy 41.1 %  612 images/s  2:22 left',
      'epoch 1/2  loss 1.623  train 41.1 %  test 57.1 %  612 images/s  0:12',
      'epoch 2/2  loss 1.623  train 41.1 %  612 images/s  0:12',
      '',
    ].join('\n'),
  );
  assert.equal(stdout.text, CLOSING);
});

test('--quiet prints only the closing lines', () => {
  for (const columns of [80, undefined]) {
    const { printer, stdout, stderr, clock } = screen({ isQuiet: true, ...(columns === undefined ? {} : { columns }) });
    for (const event of EVENTS) {
      clock.seconds += 60;
      printer.progress(progress(1));
      printer.event(event);
    }
    assert.deepEqual([stdout.text, stderr.text], [CLOSING, '']);
  }
});

test('at a terminal, one line is redrawn at most ten times a second', () => {
  const { printer, stderr, clock } = screen({ columns: 100 });
  for (let step = 1; step <= 1000; step++) {
    clock.seconds = step / 1000;
    printer.progress(progress(Math.ceil(step / 2), 0));
  }
  const redraws = stderr.text.split('\r').length - 1;
  assert.ok(redraws >= 9 && redraws <= 10, String(redraws));
  assert.doesNotMatch(stderr.text, /\n/);
});

for (const [columns, line] of [
  [
    120,
    'epoch 1/2  step 390/782  loss 1.623  accuracy 41.1 %  612 images/s  1:22 left  ━━━━━━━━━━━━━━━───────────────',
  ],
  [100, 'epoch 1/2  step 390/782  loss 1.623  accuracy 41.1 %  612 images/s  1:22 left  ━━━━━━━━━━──────────'],
  [80, 'epoch 1/2  step 390/782  loss 1.623  accuracy 41.1 %  612 images/s  1:22 left'],
  [70, 'epoch 1/2  step 390/782  loss 1.623  accuracy 41.1 %  612 images/s'],
  [40, 'epoch 1/2  step 390/782  loss 1.623'],
  [20, 'epoch 1/2'],
  [6, 'epoch'],
] as const) {
  test(`the live line on ${columns} columns`, () => {
    const { printer, stderr } = screen({ columns });
    printer.progress(progress(390));
    assert.equal(visible(stderr.text), line);
    assert.ok(line.length < columns);
  });
}

test('lasting lines fit a narrow terminal', () => {
  const { printer, stdout, stderr } = screen({ columns: 60 });
  for (const event of EVENTS) printer.event(event);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters
  const lines = `${stderr.text}${stdout.text}`.replace(/\x1b\[\d*m/g, '').split('\n');
  assert.ok(lines.includes('epoch 1/2  loss 1.623  train 41.1 %  test 57.1 %  0:00'), lines.join('\n'));
  assert.ok(lines.includes('test accuracy 61.2 %, best 62.0 %;'));
  assert.deepEqual(
    lines.filter((line) => line.length >= 60 && !line.includes('dtrain export')), // to be copied whole
    [],
  );
});

test('two epochs a second: a line for each, the live line never among them', () => {
  for (const columns of [80, undefined]) {
    const { printer, stderr, clock } = screen(columns === undefined ? {} : { columns });
    printer.event({ ...RUN_EVENT, trainImages: 128, totalSteps: 20 });
    for (let step = 1; step <= 20; step++) {
      clock.seconds = step / 2;
      printer.progress({ ...progress(step), totalSteps: 20, epoch: step });
      printer.event(stepEvent(step, step));
      printer.event(evaluationEvent(step, step));
      printer.event({ event: 'checkpoint', step, path: `runs/quickstart-1/checkpoints/step-${step}` });
    }
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters
    const lines = stderr.text.replace(/\x1b\[\d*m/g, '').split('\n');
    const whole = lines.map((line) => visible(line)).filter((line) => line.includes('test 57.1 %'));
    assert.deepEqual(
      whole.map((line) => line.split('  ')[0]),
      Array.from({ length: 20 }, (_, i) => `epoch ${i + 1}/20`),
    );
    const redraws = stderr.text.split('\r').length - 1;
    // At a terminal two writes a drawing: the live line, and its wiping before the next lasting one. In a pipe none.
    assert.equal(redraws, columns === undefined ? 0 : 40);
  }
});

test('a speed that is not known yet is left out', () => {
  const { printer, stderr } = screen({ columns: 60 });
  printer.progress(progress(1, 0));
  assert.equal(visible(stderr.text), 'epoch 1/2  step   1/782  loss 1.623  accuracy 41.1 %');
});

test('the epochs are those that the run begins', () => {
  const epochsOf = (totalSteps: number, images: number) => {
    const { printer, stderr } = screen({ columns: 40 });
    printer.progress({ ...progress(1), totalSteps, epoch: 128 / images });
    return /epoch 1\/(\d+)/.exec(stderr.text)?.[1];
  };
  assert.equal(epochsOf(782, 50_000), '2');
  assert.equal(epochsOf(783, 50_000), '3');
  assert.equal(epochsOf(100, 50_000), '1');
  assert.equal(epochsOf(500, 4000), '16');
});

test('a run that goes on inside an epoch tells of no end of the one before', () => {
  const { printer, stderr } = screen({});
  printer.progress(progress(500));
  printer.event(stepEvent(550, 1.4));
  printer.event(stepEvent(600, 1.54));
  assert.doesNotMatch(stderr.text, /epoch 1\/2 {2}loss 1\.623 {2}train/);
});

test('a run without an evaluation at its end says so', () => {
  const { printer, stdout } = screen({});
  printer.event({ ...END_EVENT, steps: 1, epochs: 1, finalTestAccuracy: null, bestTestAccuracy: null });
  assert.equal(stdout.text.split('\n')[0], 'no evaluation at the end; 1 step, 1 epoch, 2:50, 600 images/s');
});

test('a run that ends within its first epoch counts steps alone', () => {
  const { printer, stdout } = screen({});
  printer.event({ ...END_EVENT, steps: 120, epochs: 0, finalTestAccuracy: null, bestTestAccuracy: null });
  assert.equal(stdout.text.split('\n')[0], 'no evaluation at the end; 120 steps, 2:50, 600 images/s');
});

test('GPUs in the header', () => {
  const { printer, stderr } = screen({});
  printer.event({ ...RUN_EVENT, devices: ['/device:GPU:0'] });
  assert.match(stderr.text, /\n {2}devices {2}1 GPU\n/);
});

// ——— numbers ———

test('numbers for people', () => {
  assert.deepEqual([0, 999, 1234567.6, Number.NaN].map(countText), ['0', '999', '1,234,568', '–']);
  assert.deepEqual([0, 0.5714, 1, Number.NaN].map(percentText), ['0.0 %', '57.1 %', '100.0 %', '–']);
  assert.deepEqual([0.4, 59.6, 3599, 3600, 90_061, -1, Number.POSITIVE_INFINITY].map(durationText), [
    '0:00',
    '1:00',
    '59:59',
    '1:00:00',
    '25:01:01',
    '0:00',
    '–',
  ]);
  assert.deepEqual([0.010678, 1.949, 244, 12345].map(shortText), ['0.0107', '1.95', '244', '12,345']);
  assert.deepEqual(
    [rateText(611.6), bandwidthText(2.604e10), bandwidthText(Number.NaN)],
    ['612 images/s', '26.0 GB/s', '–'],
  );
});

test('a table', () => {
  assert.equal(
    tableText([
      ['model', 'layers'],
      ['resnet20', '20'],
      ['a', '110'],
    ]),
    'model     layers\nresnet20      20\na            110',
  );
});
