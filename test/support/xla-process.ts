/** A process that compiles one small function by XLA, and prints its result and the flags that XLA was given; for compile-notice.test.ts. */
import { attr, FLOAT_T } from '../../src/tensorflow/attribute.js';
import { DType } from '../../src/tensorflow/dtype.js';
import { execute } from '../../src/tensorflow/execute.js';
import { GraphBuilder } from '../../src/tensorflow/graph-builder.js';
import { tensorFrom } from '../../src/tensorflow/tensor-handle.js';
import { CPU_0, testRuntime } from './test-runtime.js';

const runtime = testRuntime({ cpuDevices: 1 });
{
  using builder = new GraphBuilder(runtime);
  const attributes = [attr.type('dtype', DType.float32), attr.shape('shape', [2, 2])];
  const input = { oper: builder.add('Placeholder', [], attributes), index: 0 };
  const product = { oper: builder.add('MatMul', [input, input], [FLOAT_T]), index: 0 };
  const output = { oper: builder.add('Relu', [product], [FLOAT_T]), index: 0 };
  builder.finish({ name: 'Small', inputs: [input], outputs: [output], effects: [] });
}
using matrix = tensorFrom(runtime, CPU_0, Float32Array.of(1, -2, 3, 4), [2, 2]);
const attributes = [attr.bool('_XlaMustCompile', true)];
using result = execute(runtime, { name: 'Small', inputs: [matrix], attributes, device: CPU_0, numOutputs: 1 })[0]!;
const flags = process.env['TF_XLA_FLAGS'] ?? '';
process.stdout.write(`${JSON.stringify({ flags, result: [...result.read()] })}\n`, () => process.exit(0));
