/** The models: sizes as published, names and layouts as torchvision's, first weights by the seed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { StoredTensor } from '../src/core/safetensors.js';
import { type Shape, shapeText, sizeOf } from '../src/core/shape.js';
import { startEngine } from '../src/graph/engine.js';
import { MODEL_NAMES, type Model, type ModelOptions, makeModel } from '../src/model/catalogue.js';
import { initialWeights } from '../src/model/initial-weights.js';
import { conv2d, dense } from '../src/model/layers.js';
import { EvaluationNet, type ParameterSpec, type StatisticsSpec, TrainingNet } from '../src/model/net.js';
import { fromTorch, toTorch, type Weights } from '../src/model/torch-layout.js';
import { relativeL2 } from './support/assert-close.js';
import { modelOf } from './support/layer-model.js';
import { PARITY_CASES, readParityFile } from './support/parity-case.js';
import { CPU_0, errorOf, testRuntime } from './support/test-runtime.js';

const engine = startEngine(testRuntime(), CPU_0);

function model(name: string, options: Partial<ModelOptions> = {}, size = 32): Model {
  return makeModel(engine, { name, classes: 10, shortcut: 'A', stem: 'cifar', ...options }, [size, size]);
}

// Sizes

/**
 * [parameters, thousands of multiply-adds]. Parameters and 125.49, 252.89 million multiply-adds of ResNet-56 and -110 are those that papers on
 * CIFAR-10 state; the paper itself has them in millions of parameters: 0.27, 0.46, 0.66, 0.85, 1.7.
 */
const CIFAR_SIZES: Readonly<Record<string, readonly [number, number]>> = {
  resnet20: [269_722, 40_551],
  resnet32: [464_154, 68_863],
  resnet44: [658_586, 97_174],
  resnet56: [853_018, 125_486],
  resnet110: [1_727_962, 252_888],
};

/** [parameters, thousand millions of multiply-adds] that torchvision states for 1000 classes and 224 × 224 pixels. */
const IMAGENET_SIZES: Readonly<Record<string, readonly [number, number]>> = {
  resnet18: [11_689_512, 1.814],
  resnet34: [21_797_672, 3.664],
  resnet50: [25_557_032, 4.089],
  resnet101: [44_549_160, 7.801],
  resnet152: [60_192_808, 11.514],
};

/** 1×1 convolutions and norms where stages of 64, 128, 256 and 512 filters meet. */
const PROJECTIONS_OF_BASIC_BLOCKS = 64 * 128 + 2 * 128 + 128 * 256 + 2 * 256 + 256 * 512 + 2 * 512;

/** The same for the other networks of 1000 classes at 224 pixels. VGG: torchvision; plain: ResNets less their projections. */
const OTHER_IMAGENET_SIZES: Readonly<Record<string, readonly [parameters: number, billions: number, layers: number]>> =
  {
    vgg16: [138_357_544, 15.47, 16],
    vgg19: [143_667_240, 19.632, 19],
    plain18: [11_689_512 - PROJECTIONS_OF_BASIC_BLOCKS, 1.795, 18],
    plain34: [21_797_672 - PROJECTIONS_OF_BASIC_BLOCKS, 3.644, 34],
  };

/**
 * [parameters, millions of multiply-adds, layers] for ten classes and 32 × 32 pixels. The papers: 19.4 M (ResNet-1202), 1.7 M (ResNet-164),
 * 10.2 M (ResNet-1001), 11.0 M (WRN-16-8), 36.5 M (WRN-28-10); wide
 * networks count their projections as two layers more.
 */
const OTHER_CIFAR_SIZES: Readonly<Record<string, readonly [parameters: number, millions: number, layers: number]>> = {
  resnet1202: [19_421_274, 2829.2, 1202],
  plain20: [269_722, 40.6, 20],
  plain32: [464_154, 68.9, 32],
  plain44: [658_586, 97.2, 44],
  plain56: [853_018, 125.5, 56],
  resnet20v2: [269_722, 40.6, 20],
  resnet56v2: [853_018, 125.5, 56],
  resnet110v2: [1_727_962, 252.9, 110],
  resnet164v2: [1_703_258, 247.6, 164],
  resnet1001v2: [10_327_706, 1491, 1001],
  'wrn-16-8': [10_961_370, 1548.1, 14],
  'wrn-28-10': [36_479_194, 5243.3, 26],
  speednet: [1_972_514, 118.1, 7],
};

test('the catalogue is these models', () => {
  const sizes = [CIFAR_SIZES, IMAGENET_SIZES, OTHER_IMAGENET_SIZES, OTHER_CIFAR_SIZES];
  assert.deepEqual([...MODEL_NAMES].sort(), sizes.flatMap((table) => Object.keys(table)).sort());
});

for (const [name, [parameters, billions, depth]] of Object.entries(OTHER_IMAGENET_SIZES)) {
  test(`${name} at 224 pixels has the published size`, () => {
    const { numParameters, multiplyAdds, layers } = model(name, { classes: 1000, stem: 'imagenet' }, 224);
    assert.deepEqual([numParameters, Math.round(multiplyAdds / 1e6) / 1000, layers], [parameters, billions, depth]);
  });
}

for (const [name, [parameters, millions, depth]] of Object.entries(OTHER_CIFAR_SIZES)) {
  test(`${name} has its size`, () => {
    const { numParameters, multiplyAdds, layers } = model(name);
    assert.deepEqual([numParameters, Math.round(multiplyAdds / 1e5) / 10, layers], [parameters, millions, depth]);
  });
}

for (const [name, [parameters, thousands]] of Object.entries(CIFAR_SIZES)) {
  test(`${name} has the published size`, () => {
    const { numParameters, multiplyAdds, layers, statistics } = model(name);
    assert.deepEqual([numParameters, Math.round(multiplyAdds / 1000)], [parameters, thousands]);
    assert.equal(`resnet${layers}`, name);
    assert.equal(statistics.length, layers - 1);
  });
}

for (const [name, [parameters, billions]] of Object.entries(IMAGENET_SIZES)) {
  test(`${name} at 224 pixels has torchvision's size`, () => {
    const { numParameters, multiplyAdds, layers } = model(name, { classes: 1000, stem: 'imagenet' }, 224);
    assert.deepEqual([numParameters, Math.round(multiplyAdds / 1e6) / 1000], [parameters, billions]);
    assert.equal(`resnet${layers}`, name);
  });
}

test('option C projects in every block', () => {
  const blocks = (name: string, shortcut: 'B' | 'C') =>
    model(name, { shortcut }).parameters.filter((parameter) => parameter.name.endsWith('downsample.0.weight')).length;
  assert.deepEqual([blocks('resnet20', 'B'), blocks('resnet20', 'C')], [2, 9]);
  assert.deepEqual([blocks('resnet34', 'B'), blocks('resnet34', 'C')], [3, 16]);
});

test('a ResNet without shortcuts is the plain network', () => {
  for (const [residual, plain] of [
    ['resnet20', 'plain20'],
    ['resnet18', 'plain18'],
  ] as const) {
    const without = model(residual, { shortcut: 'none' });
    assert.deepEqual(without.parameters, model(plain).parameters);
    assert.equal(without.multiplyAdds, model(plain).multiplyAdds);
  }
});

test('VGG for small images: one dense layer after the last map', () => {
  const { numParameters, parameters, layers } = model('vgg16');
  assert.deepEqual([numParameters, layers, parameters.at(-2)!.shape], [14_719_818, 14, [512, 10]]);
});

test("names of VGG are torchvision's", () => {
  const names = model('vgg16', { stem: 'imagenet' }, 64).parameters.map(({ name }) => name);
  const places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28].map((place) => `features.${place}`);
  const layers = [...places, 'classifier.0', 'classifier.3', 'classifier.6'];
  assert.deepEqual(
    names,
    layers.flatMap((layer) => [`${layer}.weight`, `${layer}.bias`]),
  );
});

test('projection shortcuts of a CIFAR ResNet: two convolutions and their norms more, no layer more', () => {
  const [a, b] = (['A', 'B'] as const).map((shortcut) => model('resnet20', { shortcut }));
  assert.equal(b!.numParameters - a!.numParameters, 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64);
  assert.equal(b!.layers, 20);
  const added = b!.parameters
    .map(({ name }) => name)
    .filter((name) => !a!.parameters.some((known) => known.name === name));
  assert.deepEqual(
    added,
    ['layer2.0', 'layer3.0'].flatMap((block) =>
      ['0.weight', '1.weight', '1.bias'].map((parameter) => `${block}.downsample.${parameter}`),
    ),
  );
});

test('the CIFAR stem of an ImageNet model: a 3×3 kernel and four times the positions', () => {
  const [cifar, imagenet] = (['cifar', 'imagenet'] as const).map((stem) => model('resnet18', { stem }));
  assert.equal(imagenet!.numParameters - cifar!.numParameters, 3 * 64 * (7 * 7 - 3 * 3));
  assert.equal(cifar!.numParameters, 11_173_962);
  assert(cifar!.multiplyAdds > 14 * imagenet!.multiplyAdds, 'stride 2 and pooling both left out');
});

test('images of an odd size are taken by every model with a stride', () => {
  for (const size of [31, 33]) assert.equal(model('resnet20', {}, size).numParameters, 269_722);
  assert.equal(
    model('resnet50', { stem: 'imagenet' }, 65).numParameters,
    model('resnet50', { stem: 'imagenet' }).numParameters,
  );
});

test('an unknown model is told, with the nearest one', () => {
  const known =
    'Known: resnet20, resnet32, resnet44, resnet56, resnet110, resnet1202, resnet18, resnet34, resnet50, resnet101, resnet152, plain20, plain32, plain44, plain56, plain18, plain34, vgg16, vgg19, resnet20v2, resnet56v2, resnet110v2, resnet164v2, resnet1001v2, wrn-16-8, wrn-28-10, speednet.';
  const { code, exitCode, message } = errorOf(() => model('resnet151'));
  assert.deepEqual([code, exitCode], ['DTRAIN_MODEL_UNKNOWN', 3]);
  assert.equal(message, `model.name: unknown model resnet151 (did you mean resnet101?). ${known}`);
  assert.equal(errorOf(() => model('vgg')).message, `model.name: unknown model vgg (did you mean vgg16?). ${known}`);
});

test('images too small for the poolings are told, whatever the network', () => {
  for (const [name, least] of [
    ['speednet', 9],
    ['vgg16', 32],
  ] as const) {
    assert.equal(model(name, {}, least).name, name);
    const { code, exitCode, message } = errorOf(() => model(name, {}, least - 1));
    assert.deepEqual([code, exitCode], ['DTRAIN_MODEL_IMAGES', 3]);
    assert(message.startsWith(`model.name: ${name} cannot be made for images of ${least - 1}×${least - 1}: `), message);
  }
  const wide = makeModel(engine, { name: 'speednet', classes: 10, shortcut: 'A', stem: 'cifar' }, [32, 64]);
  assert.equal(wide.numParameters, model('speednet').numParameters);
});

// Names and layouts

for (const name of PARITY_CASES) {
  test(`${name}: names, order and shapes are those of PyTorch's state`, () => {
    const { golden } = readParityFile(name);
    const { parameters, statistics } = model(golden.model, { stem: golden.stem });
    const weights = emptyWeights(parameters, statistics);
    const shapes = new Map(
      [...toTorch({ parameters, statistics }, weights)].map(([key, { shape }]) => [key, shapeText(shape)]),
    );
    const expected = new Map(golden.state.map(([key, shape]) => [key, shapeText(shape)]));
    assert.deepEqual(new Map([...shapes].sort()), new Map([...expected].sort()));
    const inOrder = [...expected.keys()].filter((key) => !key.includes('running_'));
    assert.deepEqual(
      parameters.map((parameter) => parameter.name),
      inOrder,
    );
  });
}

function emptyWeights(parameters: readonly ParameterSpec[], statistics: readonly StatisticsSpec[]): Weights {
  return {
    parameters: parameters.map(({ shape }) => new Float32Array(sizeOf(shape))),
    means: statistics.map(({ channels }) => new Float32Array(channels)),
    variances: statistics.map(({ channels }) => new Float32Array(channels)),
  };
}

const extents = (rank: number) => fc.array(fc.integer({ min: 1, max: 5 }), { minLength: rank, maxLength: rank });
const floatsOf = (length: number) => fc.float32Array({ minLength: length, maxLength: length });
const describedWeights = fc
  .record({
    shapes: fc.array(fc.constantFrom(1, 2, 4).chain(extents), { maxLength: 5 }),
    norms: fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 3 }),
  })
  .chain(({ shapes, norms }) => {
    const parameters = shapes.map((shape, i): ParameterSpec => ({ name: `p${i}`, shape, initial: { value: 0 } }));
    const statistics = norms.map((channels, i): StatisticsSpec => ({ name: `bn${i}`, channels }));
    return fc.record({
      described: fc.constant({ parameters, statistics }),
      weights: fc.record({
        parameters: fc.tuple(...shapes.map((shape) => floatsOf(sizeOf(shape)))),
        means: fc.tuple(...norms.map(floatsOf)),
        variances: fc.tuple(...norms.map(floatsOf)),
      }),
    });
  });

test('property: to torchvision’s layout and back is nothing, bit for bit', () => {
  fc.assert(
    fc.property(describedWeights, ({ described, weights }) => {
      const there = toTorch(described, weights as Weights);
      assert.equal(there.size, described.parameters.length + 2 * described.statistics.length);
      assert.deepEqual(fromTorch(described, there, 'x'), { ...weights });
    }),
  );
});

test('property: element (h, w, i, o) of a kernel is torchvision’s (o, i, h, w); (i, u) of a dense layer is (u, i)', () => {
  const kernels = extents(4).chain((shape) => fc.tuple(fc.constant(shape), floatsOf(sizeOf(shape))));
  fc.assert(
    fc.property(kernels, ([shape, values]) => {
      const [height, width, inputs, outputs] = shape as [number, number, number, number];
      const torch = transposedOf(shape, values);
      assert.deepEqual(torch.shape, [outputs, inputs, height, width]);
      for (let i = 0; i < values.length; i++) {
        const [h, w, c, o] = indexOf(i, shape) as [number, number, number, number];
        assert(Object.is(torch.values[((o * inputs + c) * height + h) * width + w], values[i]));
      }
    }),
  );
  const dense = transposedOf([2, 3], Float32Array.of(11, 12, 13, 21, 22, 23));
  assert.deepEqual(dense, { dtype: 'F32', shape: [3, 2], values: Float32Array.of(11, 21, 12, 22, 13, 23) });
});

function transposedOf(shape: Shape, values: Float32Array): StoredTensor {
  const parameters: ParameterSpec[] = [{ name: 'p', shape, initial: { value: 0 } }];
  return toTorch({ parameters, statistics: [] }, { parameters: [values], means: [], variances: [] }).get('p')!;
}

/** The index of the `i`-th element, row-major. */
function indexOf(i: number, shape: Shape): number[] {
  let rest = i;
  const index = [...shape].reverse().map((extent) => {
    const at = rest % extent;
    rest = Math.floor(rest / extent);
    return at;
  });
  return index.reverse();
}

// Weights that do not fit

const described = {
  parameters: [
    { name: 'conv1.weight', shape: [3, 3, 1, 2], initial: { value: 0 } },
    { name: 'fc.weight', shape: [2, 10], initial: { value: 0 } },
  ],
  statistics: [{ name: 'bn1', channels: 2 }],
};

function tensors(changes: Readonly<Record<string, StoredTensor | undefined>> = {}): Map<string, StoredTensor> {
  const all = toTorch(described, emptyWeights(described.parameters, described.statistics));
  for (const [name, tensor] of Object.entries(changes)) {
    if (tensor) all.set(name, tensor);
    else all.delete(name);
  }
  return all;
}

const zeros = (...shape: number[]): StoredTensor => ({ dtype: 'F32', shape, values: new Float32Array(sizeOf(shape)) });

test('weights that do not fit are told, each with what was expected', () => {
  const wrong = tensors({
    'conv1.weight': zeros(3, 3, 1, 2),
    'fc.weight': undefined,
    'bn1.running_mean': { dtype: 'F64', shape: [2], values: new Float64Array(2) },
    'layer9.weight': zeros(4),
  });
  const { code, exitCode, message } = errorOf(() => fromTorch(described, wrong, 'w.safetensors'));
  assert.deepEqual([code, exitCode], ['DTRAIN_WEIGHTS_MISMATCH', 6]);
  assert.equal(
    message,
    'w.safetensors: the weights do not fit this model:\n' +
      '  conv1.weight: expected [2,1,3,3], got [3,3,1,2]\n' +
      '  fc.weight: expected [10,2], got nothing\n' +
      '  bn1.running_mean: expected F32, got F64\n' +
      '  layer9.weight: expected nothing, got [4]\n' +
      'Choose the model they were made for, with model.name, model.stem, model.shortcut or model.module.',
  );
});

test('of many mismatches eight are listed', () => {
  const resnet20 = model('resnet20');
  const other = model('resnet32');
  const weights = emptyWeights(other.parameters, other.statistics);
  const { message } = errorOf(() => fromTorch(resnet20, toTorch(other, weights), 'w.safetensors'));
  const lines = message.split('\n');
  assert.equal(lines.length, 1 + 8 + 1 + 1);
  assert.equal(lines[1], '  layer1.3.conv1.weight: expected nothing, got [16,16,3,3]');
  const extraTensors = 3 * 2 * (2 + 2 * 4); // two blocks a stage: convolutions, and four tensors of each norm
  assert.equal(lines[9], `  and ${extraTensors - 8} more`);
});

test('counters of batches are ignored; running statistics that are missing start at 0 and 1', () => {
  const counter: StoredTensor = { dtype: 'I64', shape: [], values: BigInt64Array.of(7n) };
  const { means, variances } = fromTorch(
    described,
    tensors({ 'bn1.num_batches_tracked': counter, 'bn1.running_mean': undefined, 'bn1.running_var': undefined }),
    'x',
  );
  assert.deepEqual([means, variances], [[Float32Array.of(0, 0)], [Float32Array.of(1, 1)]]);
});

// Nets

test('a model that asks for other parameters than its description has is our own mistake', () => {
  const specs: ParameterSpec[] = [{ name: 'a', shape: [2], initial: { value: 0 } }];
  const ask = (name: string, shape: Shape) => errorOf(() => new TrainingNet(specs, []).parameter(name, shape)).message;
  assert.equal(ask('b', [2]), 'internal: the model asked for b [2], its description has a [2]');
  assert.equal(ask('a', [3]), 'internal: the model asked for a [3], its description has a [2]');
  assert.equal(
    errorOf(() => new TrainingNet([], []).parameter('a', [3])).message,
    'internal: the model asked for a [3], its description has no more parameters',
  );
  assert.equal(
    errorOf(() =>
      new EvaluationNet([], [], []).normalize('bn', undefined as never, undefined as never, undefined as never),
    ).message,
    'internal: the model has more batch normalisations than its description',
  );
  const twice = () =>
    modelOf(
      engine,
      (net, x) => conv2d(net, 'c', conv2d(net, 'c', x, { filters: 1, size: 1 }), { filters: 1, size: 1 }),
      [1, 2, 2, 1],
    );
  assert.equal(errorOf(twice).message, 'internal: two parameters are called c.weight');
});

// First weights

test('convolutions start with the variance of He, dense layers with PyTorch’s, norms at 1 and 0', () => {
  const { parameters } = model('resnet18', { stem: 'imagenet' });
  const weights = initialWeights(parameters, 1);
  for (const [i, { name, shape }] of parameters.entries()) {
    const values = weights[i]!;
    if (shape.length === 1) {
      const constant = name.endsWith('bias') ? 0 : 1;
      assert(
        values.every((value) => value === constant),
        name,
      );
      continue;
    }
    const inputs = sizeOf(shape.slice(0, -1));
    const variance = shape.length === 4 ? 2 / inputs : 1 / (3 * inputs);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const squares = values.reduce((sum, value) => sum + value ** 2, 0) / values.length;
    const n = values.length;
    assert(
      Math.abs(squares / variance - 1) < 5 * Math.sqrt(2 / n),
      `${name}: variance ${squares}, expected ${variance}`,
    );
    assert(Math.abs(mean) < 5 * Math.sqrt(variance / n), `${name}: mean ${mean}`);
  }
});

test('the layers state the deviations themselves: 3×3 of 16 channels, and 64 inputs', () => {
  const layers = modelOf(engine, (net, x) => conv2d(net, 'c', x, { filters: 5, size: 3 }), [1, 4, 4, 16]);
  assert.deepEqual(layers.parameters, [
    { name: 'c.weight', shape: [3, 3, 16, 5], initial: { deviation: Math.sqrt(2 / 144) } },
  ]);
  const fc10 = modelOf(engine, (net, x) => dense(net, 'fc', x.reshape([1, 64]), 10), [1, 8, 8, 1]);
  assert.deepEqual(fc10.parameters, [
    { name: 'fc.weight', shape: [64, 10], initial: { deviation: Math.sqrt(1 / 192) } },
    { name: 'fc.bias', shape: [10], initial: { value: 0 } },
  ]);
});

test('where asked, the first filters begin as the identity, and as many as there are channels', () => {
  const layer = (channels: number, filters: number) =>
    modelOf(engine, (net, x) => conv2d(net, 'c', x, { filters, size: 3, identity: true }), [1, 4, 4, channels]);
  const drawn = modelOf(engine, (net, x) => conv2d(net, 'c', x, { filters: 5, size: 3 }), [1, 4, 4, 2]).parameters;
  const [wider, narrower] = [layer(2, 5), layer(5, 2)].map(({ parameters }) => initialWeights(parameters, 4)[0]!);
  const expected = initialWeights(drawn, 4)[0]!.map((value, i) => {
    const [tap, channel, filter] = [Math.floor(i / 10), Math.floor(i / 5) % 2, i % 5];
    if (filter >= 2) return value;
    return tap === 4 && channel === filter ? 1 : 0;
  });
  assert.deepEqual(wider, expected);
  const ones = Array.from(narrower!).flatMap((value, i) => (value === 0 ? [] : [[i, value]]));
  assert.deepEqual(ones, [
    [40, 1],
    [43, 1],
  ]); // tap 4 of 5 x 2: channel 0 to filter 0, channel 1 to filter 1
});

test('the same seed gives the same weights, another seed others; no two parameters are alike', () => {
  const { parameters } = model('resnet20');
  const weights = initialWeights(parameters, 7);
  assert.deepEqual(initialWeights(parameters, 7), weights);
  const others = initialWeights(parameters, 8);
  const drawn = parameters.flatMap(({ shape }, i) => (shape.length > 1 ? [i] : []));
  for (const i of drawn) assert(relativeL2(others[i]!, weights[i]!) > 0.5, `${parameters[i]!.name}: another seed`);
  const firsts = new Set(drawn.map((i) => weights[i]![0]));
  assert.equal(firsts.size, drawn.length);
});
