/** The binding: tensors, variables, errors, devices, ownership. Messages of TensorFlow 2.21.0 are held word for word. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { sizeOf } from '../src/core/shape.js';
import { allocateSharedMemory } from '../src/core/shared-memory.js';
import { attr, FLOAT_T } from '../src/tensorflow/attribute.js';
import { DType, type Values } from '../src/tensorflow/dtype.js';
import { execute } from '../src/tensorflow/execute.js';
import { GraphBuilder } from '../src/tensorflow/graph-builder.js';
import { openLibrary } from '../src/tensorflow/library.js';
import { attachRuntime, deviceNamed, type Runtime } from '../src/tensorflow/runtime.js';
import { liveHandles, type TensorHandle, tensorFrom, tensorOver } from '../src/tensorflow/tensor-handle.js';
import { Variable } from '../src/tensorflow/variable.js';
import { CPU_0, CPU_1, errorOf, testRuntime } from './support/test-runtime.js';

const runtime = testRuntime();
const explicit = testRuntime({ explicitPlacement: true });
const DEVICES = [CPU_0, CPU_1] as const;
const JOB = '/job:localhost/replica:0/task:0';

const floats = (...values: number[]) => Float32Array.from(values);
const vector = (device: string, ...values: number[]) => tensorFrom(runtime, device, floats(...values), [values.length]);

function bytesOf(values: Values): Buffer {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
}

/** Runs an operation with one output. */
function runOne(name: string, inputs: readonly TensorHandle[], attributes = [FLOAT_T], device: string = CPU_1) {
  return execute(runtime, { name, inputs, attributes, device, numOutputs: 1 })[0]!;
}

const handlesAtStart = liveHandles();
after(() => assert.equal(liveHandles(), handlesAtStart, 'live handles'));

// Tensors

const values = {
  float32: (n: number) => fc.float32Array({ minLength: n, maxLength: n }),
  int32: (n: number) => fc.int32Array({ minLength: n, maxLength: n }),
  uint8: (n: number) => fc.uint8Array({ minLength: n, maxLength: n }),
  bool: (n: number) => fc.uint8Array({ minLength: n, maxLength: n, max: 1 }),
} satisfies Record<string, (n: number) => fc.Arbitrary<Values>>;
const shapes = fc.array(fc.nat(4), { maxLength: 5 });

for (const dtype of Object.keys(values) as (keyof typeof values)[]) {
  test(`property: ${dtype} tensors of any shape come back bit for bit from each device`, () => {
    const tensors = shapes.chain((shape) => fc.tuple(fc.constant(shape), values[dtype](sizeOf(shape))));
    fc.assert(
      fc.property(tensors, fc.constantFrom(...DEVICES), ([shape, array], device) => {
        using tensor = tensorFrom(runtime, device, array, shape, DType[dtype]);
        const back = tensor.read();
        assert.equal(back.constructor, array.constructor);
        assert.deepEqual(bytesOf(back), bytesOf(array));
        assert.deepEqual(tensor.shape, shape);
        assert.equal(tensor.dtype, DType[dtype]);
        assert.equal(tensor.deviceName, dtype === 'int32' ? CPU_0 : device); // functions expect int32 in host memory
      }),
    );
  });
}

test('NaN, infinities, denormals and -0 keep their bits', () => {
  const special = new Float32Array(
    Uint32Array.of(0x7fc00001, 0xffc00002, 0x7f800000, 0xff800000, 1, 0x80000001, 0x80000000).buffer,
  );
  using tensor = tensorFrom(runtime, CPU_1, special, [7]);
  assert.deepEqual(bytesOf(tensor.read()), bytesOf(special));
});

test('int64 and bfloat16, which operations make, are read as their bytes', () => {
  using source = vector(CPU_1, 1, -2, 3.140625);
  const cast = (type: DType) => runOne('Cast', [source], [attr.type('SrcT', DType.float32), attr.type('DstT', type)]);
  using wide = cast(DType.int64);
  assert.deepEqual(wide.readInto(new BigInt64Array(3)), BigInt64Array.of(1n, -2n, 3n));
  using narrow = cast(DType.bfloat16);
  assert.deepEqual(narrow.readInto(new Uint16Array(3)), Uint16Array.of(0x3f80, 0xc000, 0x4049));
});

test('a copy is a copy: what JavaScript writes later does not reach the tensor', () => {
  const array = floats(1, 2);
  using tensor = tensorFrom(runtime, CPU_0, array, [2]);
  array.fill(9);
  assert.deepEqual(tensor.read(), floats(1, 2));
});

test('too few or too many values, and reads into the wrong size, are refused', () => {
  const text = 'internal: 3 values do not fill a tensor of shape [2,2]';
  assert.equal(errorOf(() => tensorFrom(runtime, CPU_0, floats(1, 2, 3), [2, 2])).message, text);
  assert.equal(errorOf(() => tensorOver(runtime, CPU_0, sharedFloats(3), [2, 2])).message, text);
  using tensor = vector(CPU_0, 1, 2);
  assert.equal(
    errorOf(() => tensor.readInto(new Float32Array(3))).message,
    'internal: a tensor of 8 bytes was read into an array of 12',
  );
});

// Memory that is shared with TensorFlow

function sharedFloats(length: number, byteOffset = 0): Float32Array {
  return new Float32Array(allocateSharedMemory(byteOffset + 4 * length).buffer, byteOffset, length);
}

for (const device of DEVICES) {
  test(`tensorOver on ${device} is the shared memory itself, not a copy`, () => {
    const array = sharedFloats(1000, 64);
    array.fill(1);
    using tensor = tensorOver(runtime, device, array, [10, 100]);
    assert.equal(tensor.address, runtime.native.addressOf(array));
    assert.equal(tensor.deviceName, device);
    array[999] = -7;
    using negative = runOne('Neg', [tensor], [FLOAT_T], device);
    assert.equal(negative.read()[999], 7);
    assert.equal(tensor.read()[999], -7);
  });
}

test('tensorOver refuses memory that TensorFlow would not read in place', () => {
  for (const offset of [4, 32, 60]) {
    const { message, exitCode } = errorOf(() => tensorOver(runtime, CPU_0, sharedFloats(4, offset), [4]));
    assert.equal(message, 'internal: memory that TensorFlow is to read in place must start at a multiple of 64 bytes');
    assert.equal(exitCode, 1);
  }
});

// Variables

function applyMomentum(variable: Variable, momentum: Variable, gradient: readonly number[], device = CPU_1): void {
  using g = tensorFrom(runtime, device, floats(...gradient), variable.shape);
  using rate = tensorFrom(runtime, device, floats(0.5), []);
  using mu = tensorFrom(runtime, device, floats(0.75), []);
  const inputs = [variable.handle, momentum.handle, rate, g, mu];
  const attributes = [FLOAT_T, attr.bool('use_nesterov', false)];
  execute(runtime, { name: 'ResourceApplyMomentum', inputs, attributes, device, numOutputs: 0 });
}

function addressOf(variable: Variable): bigint {
  using value = variable.value();
  return value.address;
}

function currentValue(variable: Variable): number[] {
  return Array.from(variable.readInto(new Float32Array(sizeOf(variable.shape))));
}

function variable(values: readonly number[], device: string = CPU_1, on: Runtime = runtime): Variable {
  return new Variable(on, device, floats(...values), [values.length]);
}

test('an update is made in place: the same addresses, new values', () => {
  using parameter = variable([1, 2, 3]);
  using momentum = variable([4, 0, -4]);
  const addresses = [addressOf(parameter), addressOf(momentum)];
  for (let step = 0; step < 3; step++) applyMomentum(parameter, momentum, [1, 2, 3]);
  assert.deepEqual([addressOf(parameter), addressOf(momentum)], addresses);
  // momentum: 4 0 -4 → 4 2 0 → 4 3.5 3 → 4 4.625 5.25; parameter minus half the sum of them
  assert.deepEqual(currentValue(momentum), [4, 4.625, 5.25]);
  assert.deepEqual(currentValue(parameter), [-5, -3.0625, -1.125]);
});

test('a value that is still held keeps what it was; the update then has to copy', () => {
  using parameter = variable([1, 2]);
  using momentum = variable([0, 0]);
  using before = parameter.value();
  applyMomentum(parameter, momentum, [2, 2]);
  assert.deepEqual(before.read(), floats(1, 2));
  assert.deepEqual(currentValue(parameter), [0, 1]);
  assert.notEqual(addressOf(parameter), before.address);
});

test('two variables of one shape and one device are two variables, on each device', () => {
  for (const device of DEVICES) {
    using one = variable([1, 1], device);
    using two = variable([2, 2], device);
    one.assign(floats(5, 6));
    assert.deepEqual(currentValue(one), [5, 6]);
    assert.deepEqual(currentValue(two), [2, 2]);
    using value = one.value();
    assert.equal(value.deviceName, device);
  }
});

test('a variable of another shape is not assigned', () => {
  using parameter = variable([1, 2]);
  assert.equal(
    errorOf(() => parameter.assign(floats(1, 2, 3))).message,
    'internal: 3 values do not fill a tensor of shape [2]',
  );
  assert.deepEqual(currentValue(parameter), [1, 2]);
});

// Errors

test("a failed operation names itself, its device and TensorFlow's reason", () => {
  using a = tensorFrom(runtime, CPU_1, new Float32Array(6), [2, 3]);
  const { code, exitCode, message } = errorOf(() => runOne('MatMul', [a, a]));
  assert.deepEqual([code, exitCode], ['DTRAIN_TENSORFLOW', 10]);
  assert.equal(
    message,
    'TFE_Execute MatMul on /device:CPU:1: INVALID_ARGUMENT: Matrix size-incompatible: In[0]: [2,3], In[1]: [2,3]',
  );
});

test('an unknown operation and an unknown device are told', () => {
  const unknown = errorOf(() => runOne('NoSuchOp', []));
  assert.equal(unknown.code, 'DTRAIN_TENSORFLOW');
  assert.match(
    unknown.message,
    /^TFE_Execute NoSuchOp on \/device:CPU:1: NOT_FOUND: 'NoSuchOp' is neither a type of a /,
  );

  using a = vector(CPU_0, 1);
  assert.equal(
    errorOf(() => runOne('Neg', [a], [FLOAT_T], '/device:CPU:7')).message,
    "TFE_Execute Neg on /device:CPU:7: INVALID_ARGUMENT: Could not satisfy device specification '/device:CPU:7'. " +
      `enable_soft_placement=0. Supported device types [CPU]. All available devices [${JOB}${CPU_0}, ${JOB}${CPU_1}].`,
  );
  const { code, exitCode, message } = errorOf(() => deviceNamed(runtime, '/device:CPU:2'));
  assert.deepEqual([code, exitCode], ['DTRAIN_DEVICE', 4]);
  assert.equal(message, 'device /device:CPU:2: TensorFlow has only /device:CPU:0, /device:CPU:1.');
});

test('memory that the device has not is exit code 9, with the cure', () => {
  // TensorFlow waits ten seconds for memory to come free.
  using extents = tensorFrom(runtime, CPU_1, Int32Array.of(2 ** 24, 2 ** 24), [2]); // 2^50 bytes: no machine gives them
  using zero = tensorFrom(runtime, CPU_1, floats(0), []);
  const attributes = [FLOAT_T, attr.type('index_type', DType.int32)];
  const { code, exitCode, message } = errorOf(() => runOne('Fill', [extents, zero], attributes));
  assert.deepEqual([code, exitCode], ['DTRAIN_OUT_OF_MEMORY', 9]);
  assert.equal(
    message.replace(/by allocator \w+/, 'by allocator X'), // oneDNN's or the plain one
    'TFE_Execute Fill on /device:CPU:1: RESOURCE_EXHAUSTED: OOM when allocating tensor with shape[16777216,16777216] and ' +
      `type float on ${JOB}/device:CPU:1 by allocator X. Lower train.globalBatch, or set train.precision=bfloat16.`,
  );
});

test('an operation that is refused while a graph is built is named, and the graph goes on', () => {
  using graph = new GraphBuilder(runtime);
  const a = graph.constant(new Float32Array(6), [2, 3], DType.float32);
  assert.equal(
    errorOf(() => graph.add('MatMul', [a, a], [FLOAT_T])).message,
    "recording MatMul: INVALID_ARGUMENT: Dimensions must be equal, but are 3 and 2 for '{{node MatMul_1}} = MatMul[T=DT_FLOAT, " +
      "grad_a=false, grad_b=false, transpose_a=false, transpose_b=false](Const_0, Const_0)' with input shapes: [2,3], [2,3].",
  );
  const sum = { oper: graph.add('Neg', [a], [FLOAT_T]), index: 0 };
  assert.deepEqual(graph.shapeOf(sum), [2, 3]);
});

test('after an error the same thread goes on: no status is left over', () => {
  errorOf(() => runOne('NoSuchOp', []));
  using a = vector(CPU_1, 1, -2);
  using b = runOne('Neg', [a]);
  assert.deepEqual(b.read(), floats(-1, 2));
});

// Devices

test('two CPU devices; each operation runs where it is told', () => {
  assert.deepEqual(
    runtime.devices.map(({ name, fullName, kind }) => [name, fullName, kind]),
    DEVICES.map((name) => [name, JOB + name, 'cpu']),
  );
  for (const device of DEVICES) {
    using a = vector(device, 1);
    using b = runOne('Neg', [a], [FLOAT_T], device);
    assert.equal(b.deviceName, device);
  }
});

test('explicit placement refuses an input of another device; the default policy copies it', () => {
  const add = (on: Runtime) => {
    using a = tensorFrom(on, CPU_0, floats(1), [1]);
    using b = tensorFrom(on, CPU_1, floats(2), [1]);
    return execute(on, { name: 'AddV2', inputs: [a, b], attributes: [FLOAT_T], device: CPU_1, numOutputs: 1 })[0]!;
  };
  using sum = add(runtime);
  assert.deepEqual([sum.read(), sum.deviceName], [floats(3), CPU_1]);
  const { code, message } = errorOf(() => add(explicit));
  assert.equal(code, 'DTRAIN_TENSORFLOW');
  assert.equal(
    message.slice(0, message.indexOf(' Tensors can be')),
    'TFE_Execute AddV2 on /device:CPU:1: INVALID_ARGUMENT: Tensors on conflicting devices: cannot compute AddV2 as input #0 was ' +
      `expected to be on ${JOB}${CPU_1} but is actually on ${JOB}${CPU_0} (operation running on ${JOB}${CPU_1})`,
  );
});

test('copyTo moves a tensor to the other device; CPU devices share its memory', () => {
  using a = tensorFrom(explicit, CPU_0, floats(1, 2), [2]);
  using b = a.copyTo(deviceNamed(explicit, CPU_1));
  assert.deepEqual([b.deviceName, b.read(), b.address], [CPU_1, floats(1, 2), a.address]);
});

test('a function is made once and runs on each device, also from an attached runtime', () => {
  using graph = new GraphBuilder(runtime);
  const x = {
    oper: graph.add('Placeholder', [], [attr.type('dtype', DType.float32), attr.shape('shape', [2])]),
    index: 0,
  };
  const y = { oper: graph.add('Square', [x], [FLOAT_T]), index: 0 };
  graph.finish({ name: 'test_square', inputs: [x], outputs: [y], effects: [] });
  const again = () => graph.finish({ name: 'test_square', inputs: [x], outputs: [x], effects: [] });
  assert.match(errorOf(again).message, /^adding function test_square: INVALID_ARGUMENT: .*test_square/s);
  const attached = attachRuntime({ libraryPath: openLibrary().path, context: runtime.context });
  for (const on of [runtime, attached]) {
    for (const device of DEVICES) {
      using input = tensorFrom(on, device, floats(3, -4), [2]);
      const [output] = execute(on, { name: 'test_square', inputs: [input], device, numOutputs: 1 });
      using squared = output!;
      assert.deepEqual([squared.read(), squared.deviceName], [floats(9, 16), device]);
    }
  }
});

// Ownership

test('a handle is disposed once, counted once, and throws when it is used later', () => {
  const before = liveHandles();
  const tensor = vector(CPU_1, 1);
  assert.equal(liveHandles(), before + 1);
  tensor[Symbol.dispose]();
  tensor[Symbol.dispose]();
  assert.equal(liveHandles(), before);
  for (const use of [() => tensor.read(), () => tensor.shape, () => tensor.address, () => runOne('Neg', [tensor])]) {
    assert.equal(errorOf(use).message, 'internal: a tensor handle was used after it was disposed');
  }
});

test('no handle is left by what fails on its way', () => {
  const before = liveHandles();
  errorOf(() => new Variable(runtime, '/device:CPU:9', floats(1), [1]));
  errorOf(() => runOne('NoSuchOp', []));
  assert.equal(liveHandles(), before);
});
