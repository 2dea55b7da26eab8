/**
 * A Network as an ONNX model, opset 17: images NCHW, kernels OIHW, weights as initializers, class names in its metadata.
 * Source: onnx/onnx.proto (field numbers), onnx/docs/Operators.md.
 */
import { type Shape, sizeOf } from '../core/shape.js';
import { field, floatField, message, packedIntegers } from '../tensorflow/protobuf.js';
import type { Layer, NamedTensor, Network, Padding } from './network.js';
import { bytesOf, INPUT_NAME, OUTPUT_NAMES } from './tensorflow-graph.js';

const IR_VERSION = 8;
const OPSET = 17;
const FLOAT = 1;
const INT64 = 7;
/** AttributeProto.type */
const [ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_INTS] = [1, 2, 7];

export function onnxModel(network: Network): Uint8Array {
  const writer = new Writer(network);
  for (const layer of network.layers) writer.add(layer);
  const [height, width] = network.imageSize;
  const outputs = OUTPUT_NAMES.map((name) => field(12, valueInfo(name, [sizeOf(network.layers.at(-1)!.shape)])));
  const { nodes, initializers } = writer.finish();
  const graph = message(
    ...nodes.map((node) => field(1, node)),
    field(2, 'dtrain'),
    ...initializers.map((initializer) => field(5, initializer)),
    field(11, valueInfo(INPUT_NAME, [3, height, width])),
    ...outputs,
  );
  const classes = message(field(1, 'classes'), field(2, JSON.stringify(network.classes)));
  return message(
    field(1, IR_VERSION),
    field(2, 'dtrain'),
    field(7, graph),
    field(8, message(field(1, ''), field(2, OPSET))),
    field(14, classes),
  );
}

type Attributes = Readonly<Record<string, number | readonly number[] | { readonly float: number }>>;

class Writer {
  readonly #nodes: Buffer[] = [];
  readonly #initializers = new Map<string, Buffer>();
  readonly #layers: readonly Layer[];

  constructor({ layers }: Network) {
    this.#layers = layers;
  }

  add(layer: Layer): void {
    if (layer.op === 'input') return;
    const { name } = layer;
    const x = this.#layers[layer.x]!.name;
    const isMap = layer.shape.length === 3;
    switch (layer.op) {
      case 'affine':
        this.#node('Mul', [x, this.#perChannel(layer.factor, isMap)], `${name}/scaled`);
        return this.#node('Add', [`${name}/scaled`, this.#perChannel(layer.shift, isMap)], name);
      case 'conv': {
        const inputs = [x, this.#kernel(layer.kernel), ...(layer.bias ? [this.#floats(layer.bias)] : [])];
        const { size, stride, padding } = layer;
        return this.#node('Conv', inputs, name, { kernel_shape: size, pads: padsOf(padding), strides: stride });
      }
      case 'batchNorm': {
        const weights = [layer.scale, layer.offset, layer.mean, layer.variance].map((weight) => this.#floats(weight));
        return this.#node('BatchNormalization', [x, ...weights], name, { epsilon: { float: layer.epsilon } });
      }
      case 'maxPool':
      case 'averagePool': {
        const { size, stride, padding } = layer;
        const attributes = { kernel_shape: size, pads: padsOf(padding), strides: stride };
        return this.#node(layer.op === 'maxPool' ? 'MaxPool' : 'AveragePool', [x], name, attributes);
      }
      case 'relu':
        return this.#node('Relu', [x], name);
      case 'add':
        return this.#node('Add', [x, this.#layers[layer.y]!.name], name);
      case 'bias':
        return this.#node('Add', [x, this.#perChannel(layer.bias, isMap)], name);
      case 'pad': {
        const [rows, columns, channels] = layer.paddings;
        const pads = [0, 1].flatMap((end) => [0, channels[end]!, rows[end]!, columns[end]!]);
        const value = { name: `${name}/value`, shape: [], values: Float32Array.of(layer.value) };
        return this.#node('Pad', [x, this.#integers(`${name}/pads`, pads), this.#floats(value)], name);
      }
      case 'globalAverage':
        this.#node('GlobalAveragePool', [x], `${name}/maps`);
        return this.#node('Flatten', [`${name}/maps`], name);
      case 'flatten': // the dense layer after it counts in the order height, width, channels
        this.#node('Transpose', [x], `${name}/transposed`, { perm: [0, 2, 3, 1] });
        return this.#node('Flatten', [`${name}/transposed`], name);
      case 'dense':
        return this.#node('MatMul', [x, this.#floats(layer.weight)], name);
      default:
        layer satisfies never;
    }
  }

  finish(): { nodes: readonly Buffer[]; initializers: readonly Buffer[] } {
    const [logits, probabilities] = OUTPUT_NAMES;
    this.#node('Identity', [this.#layers.at(-1)!.name], logits);
    this.#node('Softmax', [logits], probabilities, { axis: 1 });
    return { nodes: this.#nodes, initializers: [...this.#initializers.values()] };
  }

  #node(type: string, inputs: readonly string[], output: string, attributes: Attributes = {}): void {
    const attributeFields = Object.entries(attributes).map(([name, value]) => field(5, attribute(name, value)));
    const inputFields = inputs.map((input) => field(1, input));
    this.#nodes.push(message(...inputFields, field(2, output), field(3, output), field(4, type), ...attributeFields));
  }

  #floats({ name, shape, values }: NamedTensor): string {
    return this.#initializer(name, FLOAT, shape, bytesOf(values));
  }

  /** [C], or [C, 1, 1] where it meets maps. */
  #perChannel({ name, shape, values }: NamedTensor, isMap: boolean): string {
    return this.#initializer(name, FLOAT, isMap ? [...shape, 1, 1] : shape, bytesOf(values));
  }

  /** HWIO to OIHW. */
  #kernel({ name, shape, values }: NamedTensor): string {
    const [height, width, inputs, outputs] = shape as [number, number, number, number];
    const turned = new Float32Array(values.length);
    let at = 0;
    for (let o = 0; o < outputs; o++)
      for (let i = 0; i < inputs; i++)
        for (let y = 0; y < height; y++)
          for (let x = 0; x < width; x++) turned[at++] = values[((y * width + x) * inputs + i) * outputs + o]!;
    return this.#initializer(name, FLOAT, [outputs, inputs, height, width], bytesOf(turned));
  }

  #integers(name: string, values: readonly number[]): string {
    const bytes = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    return this.#initializer(name, INT64, [values.length], bytes);
  }

  #initializer(name: string, type: number, shape: Shape, bytes: Uint8Array): string {
    const dims = shape.map((extent) => field(1, extent));
    this.#initializers.set(name, message(...dims, field(2, type), field(8, name), field(9, bytes)));
    return name;
  }
}

/** [top, left, bottom, right] */
function padsOf([rows, columns]: readonly [Padding, Padding]): readonly number[] {
  return [rows[0], columns[0], rows[1], columns[1]];
}

function attribute(name: string, value: Attributes[string]): Buffer {
  if (typeof value === 'number') return message(field(1, name), field(3, value), field(20, ATTRIBUTE_INT!));
  if ('float' in value) return message(field(1, name), floatField(2, value.float), field(20, ATTRIBUTE_FLOAT!));
  return message(field(1, name), packedIntegers(8, value), field(20, ATTRIBUTE_INTS!));
}

/** A value of float32 [batch, ...shape]. */
function valueInfo(name: string, shape: Shape): Buffer {
  const dims = [field(2, 'batch'), ...shape.map((extent) => field(1, extent))].map((dim) => field(1, dim));
  return message(field(1, name), field(2, field(1, message(field(1, FLOAT), field(2, message(...dims))))));
}
