/**
 * A Network as nodes of a TensorFlow graph, weights as constants, and the two spellings of them: GraphDef in protobuf (SavedModel) and in
 * JSON (tfjs).
 *
 * Names of outputs: `logits` and `probabilities`, [images, classes]; of the input: `images`, [images, H, W, 3].
 * Sources: tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto.
 */
import { type Shape, sizeOf } from '../core/shape.js';
import { field, floatField, mapEntry, message, packedIntegers } from '../tensorflow/protobuf.js';
import type { Layer, NamedTensor, Network, Padding } from './network.js';

export type TensorflowAttribute =
  | { readonly type: number }
  | { readonly text: string }
  | { readonly float: number }
  | { readonly bool: boolean }
  | { readonly integers: readonly number[] }
  | { readonly shape: Shape }
  | { readonly tensor: ConstantTensor };

export interface ConstantTensor {
  readonly dtype: typeof FLOAT | typeof INT32;
  readonly shape: Shape;
  readonly values: Float32Array | Int32Array;
}

export interface TensorflowNode {
  readonly name: string;
  readonly op: string;
  readonly inputs: readonly string[];
  /** In the order of their names. */
  readonly attributes: Readonly<Record<string, TensorflowAttribute>>;
}

const FLOAT = 1;
const INT32 = 3;
/** Of the graph's format; what TensorFlow 2.15 wrote, so that this one and later ones read it. */
const PRODUCER = 1645;

export const INPUT_NAME = 'images';
export const OUTPUT_NAMES = ['logits', 'probabilities'] as const;

export function tensorflowNodes(network: Network): readonly TensorflowNode[] {
  const writer = new Writer(network);
  for (const layer of network.layers) writer.add(layer);
  return writer.finish();
}

class Writer {
  readonly #nodes: TensorflowNode[] = [];
  readonly #names: string[];

  constructor({ layers }: Network) {
    this.#names = layers.map(({ name }) => name);
  }

  add(layer: Layer): void {
    const { name } = layer;
    const x = layer.op === 'input' ? '' : this.#names[layer.x]!;
    const t = { T: { type: FLOAT } };
    switch (layer.op) {
      case 'input':
        return this.#node(name, 'Placeholder', [], { dtype: { type: FLOAT }, shape: { shape: [-1, ...layer.shape] } });
      case 'affine':
        this.#node(`${name}/scaled`, 'Mul', [x, this.#weight(layer.factor)], t);
        return this.#node(name, 'AddV2', [`${name}/scaled`, this.#weight(layer.shift)], t);
      case 'conv': {
        const { kernel, bias, stride } = layer;
        const conv = bias ? `${name}/conv` : name;
        const attributes = {
          ...t,
          data_format: { text: 'NHWC' },
          dilations: { integers: [1, 1, 1, 1] },
          padding: { text: paddingWord(layer) },
          strides: { integers: [1, ...stride, 1] },
        };
        this.#node(conv, 'Conv2D', [x, this.#weight(kernel)], attributes);
        if (bias) this.#bias(name, conv, bias);
        return;
      }
      case 'batchNorm': {
        const weights = [layer.scale, layer.offset, layer.mean, layer.variance].map((weight) => this.#weight(weight));
        const attributes = {
          ...t,
          U: { type: FLOAT },
          data_format: { text: 'NHWC' },
          epsilon: { float: layer.epsilon },
          is_training: { bool: false },
        };
        return this.#node(name, 'FusedBatchNormV3', [x, ...weights], attributes);
      }
      case 'maxPool':
      case 'averagePool': {
        const attributes = {
          ...t,
          data_format: { text: 'NHWC' },
          ksize: { integers: [1, ...layer.size, 1] },
          padding: { text: paddingWord(layer) },
          strides: { integers: [1, ...layer.stride, 1] },
        };
        return this.#node(name, layer.op === 'maxPool' ? 'MaxPool' : 'AvgPool', [x], attributes);
      }
      case 'relu':
        return this.#node(name, 'Relu', [x], t);
      case 'add':
        return this.#node(name, 'AddV2', [x, this.#names[layer.y]!], t);
      case 'bias':
        return this.#bias(name, x, layer.bias);
      case 'pad': {
        const paddings = this.#integers(`${name}/paddings`, [4, 2], [0, 0, ...layer.paddings.flat()]);
        const value = this.#constant(`${name}/value`, {
          dtype: FLOAT,
          shape: [],
          values: Float32Array.of(layer.value),
        });
        return this.#node(name, 'PadV2', [x, paddings, value], { ...t, Tpaddings: { type: INT32 } });
      }
      case 'globalAverage': {
        const axes = this.#integers(`${name}/axes`, [2], [1, 2]);
        return this.#node(name, 'Mean', [x, axes], { ...t, Tidx: { type: INT32 }, keep_dims: { bool: false } });
      }
      case 'flatten': {
        const shape = this.#integers(`${name}/shape`, [2], [-1, sizeOf(layer.shape)]);
        return this.#node(name, 'Reshape', [x, shape], { ...t, Tshape: { type: INT32 } });
      }
      case 'dense': {
        const attributes = { ...t, transpose_a: { bool: false }, transpose_b: { bool: false } };
        return this.#node(name, 'MatMul', [x, this.#weight(layer.weight)], attributes);
      }
      default:
        layer satisfies never;
    }
  }

  finish(): readonly TensorflowNode[] {
    const [logits, probabilities] = OUTPUT_NAMES;
    this.#node(logits, 'Identity', [this.#names.at(-1)!], { T: { type: FLOAT } });
    this.#node(probabilities, 'Softmax', [logits], { T: { type: FLOAT } });
    return this.#nodes;
  }

  #bias(name: string, x: string, bias: NamedTensor): void {
    this.#node(name, 'BiasAdd', [x, this.#weight(bias)], { T: { type: FLOAT }, data_format: { text: 'NHWC' } });
  }

  #weight({ name, shape, values }: NamedTensor): string {
    return this.#constant(nodeName(name), { dtype: FLOAT, shape, values });
  }

  #integers(name: string, shape: Shape, values: readonly number[]): string {
    return this.#constant(name, { dtype: INT32, shape, values: Int32Array.from(values) });
  }

  #constant(name: string, tensor: ConstantTensor): string {
    this.#node(name, 'Const', [], { dtype: { type: tensor.dtype }, value: { tensor } });
    return name;
  }

  #node(name: string, op: string, inputs: readonly string[], attributes: TensorflowNode['attributes']): void {
    this.#nodes.push({ name, op, inputs, attributes });
  }
}

/** `layer1.0.conv1.weight` as it is: TensorFlow's names of nodes take letters, digits and `.-/_`. */
function nodeName(name: string): string {
  return name.replace(/[^A-Za-z0-9./_-]/g, '_');
}

/** The layers of a network pad by a layer of their own, or as SAME does. */
function paddingWord({ padding }: { readonly padding: readonly [Padding, Padding] }): 'SAME' | 'VALID' {
  return padding.flat().some((extent) => extent > 0) ? 'SAME' : 'VALID';
}

export function graphDefProto(nodes: readonly TensorflowNode[]): Buffer {
  return message(...nodes.map((node) => field(1, nodeProto(node))), field(4, message(field(1, PRODUCER))));
}

/** The graph without the values of its constants: for a picture of it. */
export function graphOutlineProto(nodes: readonly TensorflowNode[]): Buffer {
  const outline = nodes.map((node) => {
    const shown = Object.entries(node.attributes).filter(([, value]) => !('tensor' in value));
    return { ...node, attributes: Object.fromEntries(shown) };
  });
  return graphDefProto(outline);
}

function nodeProto({ name, op, inputs, attributes }: TensorflowNode): Buffer {
  const attributeFields = Object.entries(attributes).map(([key, value]) => mapEntry(5, key, attributeProto(value)));
  return message(field(1, name), field(2, op), ...inputs.map((input) => field(3, input)), ...attributeFields);
}

function attributeProto(attribute: TensorflowAttribute): Buffer {
  if ('type' in attribute) return field(6, attribute.type);
  if ('text' in attribute) return field(2, attribute.text);
  if ('float' in attribute) return floatField(4, attribute.float);
  if ('bool' in attribute) return field(5, attribute.bool ? 1 : 0);
  if ('integers' in attribute) return field(1, packedIntegers(3, attribute.integers));
  if ('shape' in attribute) return field(7, shapeProto(attribute.shape));
  const { dtype, shape, values } = attribute.tensor;
  return field(8, message(field(1, dtype), field(2, shapeProto(shape)), field(4, bytesOf(values))));
}

export function shapeProto(shape: Shape): Buffer {
  return message(...shape.map((extent) => field(2, field(1, extent))));
}

export function bytesOf(values: Float32Array | Int32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** `model.json`'s spelling: constants are named here, their values lie beside it. */
export function graphDefJson(nodes: readonly TensorflowNode[]): object {
  const node = nodes.map(({ name, op, inputs, attributes }) => {
    const shown = Object.entries(attributes).filter(([, value]) => !('tensor' in value));
    const attr = Object.fromEntries(shown.map(([key, value]) => [key, attributeJson(value)]));
    return inputs.length === 0 ? { name, op, attr } : { name, op, input: inputs, attr };
  });
  return { node, library: {}, versions: { producer: PRODUCER } };
}

const DTYPE_NAMES: Readonly<Record<number, string>> = { [FLOAT]: 'DT_FLOAT', [INT32]: 'DT_INT32' };

function attributeJson(attribute: Exclude<TensorflowAttribute, { tensor: ConstantTensor }> | TensorflowAttribute) {
  if ('type' in attribute) return { type: DTYPE_NAMES[attribute.type] };
  if ('text' in attribute) return { s: Buffer.from(attribute.text).toString('base64') };
  if ('float' in attribute) return { f: attribute.float };
  if ('bool' in attribute) return { b: attribute.bool };
  if ('integers' in attribute) return { list: { i: attribute.integers.map(String) } };
  if ('shape' in attribute) return { shape: shapeJson(attribute.shape) };
  return {};
}

export function shapeJson(shape: Shape): object {
  return { dim: shape.map((size) => ({ size: String(size) })) };
}
