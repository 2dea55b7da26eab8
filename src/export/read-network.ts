/**
 * From a model and its weights to a Network: the model's code is recorded in evaluation mode and each operation becomes a layer.
 * Throws DTRAIN_EXPORT_UNSUPPORTED (exit 3) for an operation that no export knows.
 */
import { DtrainError, ExitCode, internalError } from '../core/errors.js';
import type { Normalization } from '../core/events.js';
import type { Engine } from '../graph/engine.js';
import type { GraphValue } from '../graph/graph-value.js';
import type { RecordedNode } from '../graph/recording.js';
import type { Tensor, Tensor1D, Tensor4D } from '../graph/tfjs.js';
import type { Model } from '../model/catalogue.js';
import { EvaluationNet } from '../model/net.js';
import type { Weights } from '../model/torch-layout.js';
import type { Layer, NamedTensor, Network, Padding } from './network.js';

export interface NetworkSource {
  readonly model: Model;
  readonly weights: Weights;
  readonly imageSize: readonly [height: number, width: number];
  readonly normalization: Normalization;
  readonly classes: readonly string[];
}

/** Borrows the weights. */
export function readNetwork(engine: Engine, source: NetworkSource): Network {
  const reader = new Reader(source);
  const { nodes, result } = engine.traceNodes(() => {
    const { model, imageSize } = source;
    const named = (name: string, shape: readonly number[], values: Float32Array): Tensor => {
      const tensor = engine.placeholder(shape);
      reader.nameWeight(engine.graphValue(tensor), { name, shape, values });
      return tensor;
    };
    const parameters = model.parameters.map(({ name, shape }, i) => named(name, shape, source.weights.parameters[i]!));
    const statistics = model.statistics.map(({ name, channels }, i) => ({
      meanC: named(`${name}.running_mean`, [channels], source.weights.means[i]!) as Tensor1D,
      varianceC: named(`${name}.running_var`, [channels], source.weights.variances[i]!) as Tensor1D,
    }));
    const images = engine.placeholder([1, ...imageSize, 3]) as Tensor4D;
    reader.nameImages(engine.graphValue(images));
    return model.forward(new EvaluationNet(model.parameters, parameters, statistics), images);
  });
  for (const node of nodes) reader.read(node);
  return { layers: reader.layersUpTo(result), imageSize: source.imageSize, classes: source.classes };
}

/** From [N, H, W, C] to [N, units]; one pixel is flattened as many are. */
function flattensImages(x: GraphValue, y: GraphValue): boolean {
  return x.shape.length === 4 && y.shape.length === 2;
}

/** A layer without what every layer has. */
type Body = Layer extends infer L ? (L extends Layer ? Omit<L, 'name' | 'shape'> : never) : never;

class Reader {
  readonly #source: NetworkSource;
  readonly #layers: Layer[] = [];
  readonly #layerOf = new Map<GraphValue, number>();
  readonly #weights = new Map<GraphValue, NamedTensor>();
  readonly #constants = new Map<GraphValue, ArrayLike<number>>();

  constructor(source: NetworkSource) {
    this.#source = source;
  }

  nameWeight(value: GraphValue, tensor: NamedTensor): void {
    this.#weights.set(value, tensor);
  }

  /** The model's images are normalised: the network's are pixels, normalised by its first layer. */
  nameImages(value: GraphValue): void {
    const { mean, std } = this.#source.normalization;
    const constant = (name: string, values: readonly number[]): NamedTensor => ({
      name: `normalization.${name}`,
      shape: [3],
      values: Float32Array.from(values),
    });
    const shape = [...this.#source.imageSize, 3];
    this.#layers.push({ op: 'input', name: 'images', shape });
    this.#add(value, {
      op: 'affine',
      x: 0,
      factor: constant(
        'factor',
        std.map((deviation) => 1 / (255 * deviation)),
      ),
      shift: constant(
        'shift',
        mean.map((average, channel) => -average / std[channel]!),
      ),
    });
  }

  read(node: RecordedNode): void {
    if (node.type === 'Placeholder') return;
    if (node.values) this.#constants.set(node.outputs[0]!, node.values as ArrayLike<number>);
    else if (this.#isAlias(node)) return;
    else this.#add(node.outputs[0]!, this.#body(node));
  }

  /** A reshape of rows that only adds or leaves out extents of 1, as around tfjs's matrix products: what was read is what is given. */
  #isAlias({ type, inputs, outputs }: RecordedNode): boolean {
    const [x, y] = [inputs[0]!, outputs[0]!];
    const extents = ({ shape }: GraphValue) => shape.filter((extent) => extent !== 1).join();
    if (type !== 'Reshape' || flattensImages(x, y) || extents(x) !== extents(y)) return false;
    const weight = this.#weights.get(x);
    const layer = this.#layerOf.get(x);
    if (weight) this.#weights.set(y, weight);
    if (layer !== undefined) this.#layerOf.set(y, layer);
    return weight !== undefined || layer !== undefined;
  }

  layersUpTo(result: GraphValue): readonly Layer[] {
    if (this.#layerOf.get(result) !== this.#layers.length - 1) throw internalError('a model goes on after its logits.');
    return this.#layers;
  }

  #add(value: GraphValue, body: Body): void {
    this.#layerOf.set(value, this.#layers.length);
    const name = `${body.op}_${this.#layers.length}`;
    const shape = value.shape.length === 3 ? value.shape.slice(-1) : value.shape.slice(1); // [1, N, C]: rows of a matrix product
    this.#layers.push({ ...body, name, shape } as Layer);
  }

  #body(node: RecordedNode): Body {
    const [first, second] = node.inputs;
    const x = this.#layer(node, first);
    switch (node.type) {
      case 'Conv2D': {
        const kernel = this.#weight(node, second);
        const [height, width] = kernel.shape as [number, number];
        return { op: 'conv', x, kernel, bias: null, ...this.#window(node, [height, width]) };
      }
      case 'FusedBatchNormV3': {
        const [scale, offset, mean, variance] = node.inputs.slice(1, 5).map((input) => this.#weight(node, input));
        const epsilon = attributeOf(node, 'epsilon') as number;
        return { op: 'batchNorm', x, scale: scale!, offset: offset!, mean: mean!, variance: variance!, epsilon };
      }
      case 'Relu':
        return { op: 'relu', x };
      case 'Add':
      case 'AddV2': {
        const bias = this.#weights.get(second!);
        if (bias) return { op: 'bias', x, bias };
        return { op: 'add', x, y: this.#layer(node, second) };
      }
      case 'Pad':
      case 'PadV2': {
        const all = this.#constant(node, second);
        const pairs = [0, 1, 2, 3].map((axis): Padding => [all[2 * axis]!, all[2 * axis + 1]!]);
        if (all.length !== 8 || pairs[0]!.some((extent) => extent !== 0)) throw unsupported(node, this.#source);
        const value = node.inputs[2] ? this.#constant(node, node.inputs[2])[0]! : 0;
        return { op: 'pad', x, paddings: [pairs[1]!, pairs[2]!, pairs[3]!], value };
      }
      case 'MaxPool':
      case 'AvgPool': {
        const size = (attributeOf(node, 'ksize') as number[]).slice(1, 3) as [number, number];
        return { op: node.type === 'MaxPool' ? 'maxPool' : 'averagePool', x, ...this.#window(node, size) };
      }
      case 'Mean': {
        const axes = [...Array.from(this.#constant(node, second))].sort().join();
        if (axes !== '1,2' || attributeOf(node, 'keep_dims') === true) throw unsupported(node, this.#source);
        return { op: 'globalAverage', x };
      }
      case 'BatchMatMulV2':
      case 'MatMul':
        return { op: 'dense', x, weight: this.#weight(node, second) };
      case 'Reshape':
        if (!flattensImages(node.inputs[0]!, node.outputs[0]!)) throw unsupported(node, this.#source);
        return { op: 'flatten', x };
      default:
        throw unsupported(node, this.#source);
    }
  }

  #layer(node: RecordedNode, value: GraphValue | undefined): number {
    const index = value && this.#layerOf.get(value);
    if (index === undefined) throw unsupported(node, this.#source);
    return index;
  }

  /** A parameter, or a constant of the model's code that takes a parameter's place. */
  #weight(node: RecordedNode, value: GraphValue | undefined): NamedTensor {
    const weight = value && this.#weights.get(value);
    if (weight) return weight;
    const values = Float32Array.from(this.#constant(node, value));
    return { name: `constant.${this.#layers.length}`, shape: value!.shape, values };
  }

  #constant(node: RecordedNode, value: GraphValue | undefined): ArrayLike<number> {
    const constant = value && this.#constants.get(value);
    if (!constant) throw unsupported(node, this.#source);
    return constant;
  }

  /** SAME means as many rows as the outputs need, half of them above, the odd one below. */
  #window(node: RecordedNode, size: readonly [number, number]) {
    const strides = attributeOf(node, 'strides') as number[];
    const stride = [strides[1]!, strides[2]!] as const;
    const padding = [0, 1].map((axis): Padding => {
      if (attributeOf(node, 'padding') !== 'SAME') return [0, 0];
      const [from, to] = [node.inputs[0]!.shape[axis + 1]!, node.outputs[0]!.shape[axis + 1]!];
      const total = Math.max(0, (to - 1) * stride[axis]! + size[axis]! - from);
      return [Math.floor(total / 2), Math.ceil(total / 2)];
    });
    return { size, stride, padding: padding as [Padding, Padding] };
  }
}

function attributeOf({ attributes }: RecordedNode, name: string): unknown {
  return attributes.find((attribute) => attribute.name === name)?.value;
}

function unsupported({ type, inputs }: RecordedNode, { model }: NetworkSource): DtrainError {
  const shapes = inputs.map(({ shape }) => `[${shape.join(',')}]`).join(' ');
  const text = `export of ${model.name}: expected operations that every format has, got ${type} ${shapes}. Export it with --format safetensors, which takes any model.`;
  return new DtrainError('DTRAIN_EXPORT_UNSUPPORTED', ExitCode.configuration, text);
}
