import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { derive } from '../src/config/derive.js';
import { loadConfig, shippedConfigs } from '../src/config/load.js';
import { printConfig } from '../src/config/print-config.js';
import { learningRateAt } from '../src/optim/schedule.js';

const CIFAR_FAMILY = ['resnet20', 'resnet32', 'resnet44', 'resnet56', 'resnet110'];
const IMAGENET_FAMILY = ['resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152'];
/** With recipes of their own. */
const OTHERS = ['resnet1202', 'resnet110v2', 'resnet164v2', 'wrn-16-8', 'wrn-28-10', 'vgg16', 'speedrun'];
const PLAIN = ['plain20', 'plain32', 'plain44', 'plain56'];
/** Augmentation that no recipe has, at its defaults. */
const NO_MORE = { brightness: 0, contrast: 0, mixup: 0 };
/** Keys of other optimizers, at their defaults. */
const REST = { decoupled: false, exempt: 'none', clipNorm: 0, beta2: 0.999, epsilon: 1e-8, trust: 0.001 };
const CIFAR10_IMAGES = 50_000;

const textOf = (name: string) => fs.readFileSync(new URL(`../../configs/${name}.yaml`, import.meta.url), 'utf8');

test('the configurations that ship', () => {
  assert.deepEqual(
    shippedConfigs(),
    ['quickstart', 'resnet20-fast', 'resnet20-short', ...CIFAR_FAMILY, ...IMAGENET_FAMILY, ...PLAIN, ...OTHERS].sort(),
  );
});

for (const name of shippedConfigs()) {
  test(`${name}: says what it is, is complete, and has every key as a printed one has`, () => {
    const text = textOf(name);
    assert.match(text, /^# (ResNet|Plain|WRN|VGG|SpeedNet)\b.* on .*Recipe: /);
    assert.equal(text.replace(/^(#.*\n)+/, ''), printConfig(loadConfig({ file: name })));
  });

  test(`${name}: the batch is whole on 1, 2, 4 and 8 workers`, () => {
    const config = loadConfig({ file: name });
    for (const workers of [1, 2, 4, 8]) derive(config, { workers, cores: 8, trainImages: CIFAR10_IMAGES });
  });
}

for (const name of [...OTHERS, ...PLAIN]) {
  test(`${name}: names a model that there is`, () => {
    const { model } = loadConfig({ file: name });
    assert.equal(model.name, name === 'speedrun' ? 'speednet' : name);
  });
}

for (const name of [...CIFAR_FAMILY, ...PLAIN]) {
  test(`${name}: the paper's recipe`, () => {
    const { model, data, train, optimizer, schedule } = loadConfig({ file: name });
    assert.deepEqual(
      [model.name, model.shortcut, data.augment],
      [name, 'A', { crop: 4, flip: true, cutout: 0, ...NO_MORE }],
    );
    assert.deepEqual([train.epochs, train.globalBatch, train.precision], [164, 128, 'float32']);
    assert.deepEqual(optimizer, { name: 'sgd', momentum: 0.9, nesterov: false, weightDecay: 1e-4, ...REST });
    const { totalSteps } = derive(loadConfig({ file: name }), { workers: 1, cores: 1, trainImages: CIFAR10_IMAGES });
    const rateAt = (step: number) => learningRateAt(schedule, step, CIFAR10_IMAGES / 128, totalSteps);
    assert.ok(Math.abs(totalSteps - 64_000) < 100);
    assert.deepEqual(
      [rateAt(1000), rateAt(31_000), rateAt(33_000), rateAt(49_000)].map((rate) => Number(rate.toFixed(6))),
      [0.1, 0.1, 0.01, 0.001],
    );
  });
}

for (const name of IMAGENET_FAMILY) {
  test(`${name}: SGD with Nesterov momentum along half a cosine`, () => {
    const { model, train, optimizer, schedule } = loadConfig({ file: name });
    assert.deepEqual([model.name, model.stem, train.labelSmoothing], [name, 'cifar', 0]);
    assert.deepEqual(optimizer, { name: 'sgd', momentum: 0.9, nesterov: true, weightDecay: 5e-4, ...REST });
    assert.deepEqual([schedule.name, schedule.learningRate], ['cosine', 0.1]);
  });
}

test('quickstart: two epochs of CIFAR-10 in bfloat16, one cycle', () => {
  const config = loadConfig({ file: 'quickstart' });
  assert.equal(derive(config, { workers: 2, cores: 2, trainImages: CIFAR10_IMAGES }).totalSteps, 1563);
  assert.deepEqual(
    [config.train.precision, config.schedule.name, config.train.globalBatch],
    ['bfloat16', 'one-cycle', 64],
  );
});

test('resnet20-fast: at most nine epochs, one cycle to 0.08, Nesterov momentum, no label smoothing', () => {
  const { model, data, train, optimizer, schedule } = loadConfig({ file: 'resnet20-fast' });
  assert.equal(model.name, 'resnet20');
  assert.ok(train.epochs <= 9);
  assert.deepEqual([train.precision, train.labelSmoothing], ['bfloat16', 0]);
  assert.deepEqual(data.augment, { crop: 2, flip: true, cutout: 0, ...NO_MORE });
  assert.deepEqual(optimizer, { name: 'sgd', momentum: 0.9, nesterov: true, weightDecay: 5e-4, ...REST });
  assert.deepEqual([schedule.name, schedule.learningRate], ['one-cycle', 0.08]);
});
