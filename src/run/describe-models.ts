/** `dtrain models`: parameters, multiply-adds and layers of models, counted over their recordings. */
import { startEngine } from '../graph/engine.js';
import { MODEL_NAMES, makeModel } from '../model/catalogue.js';
import { openDevices } from './devices.js';

export interface DescribeOptions {
  /** Empty: all models. */
  readonly names: readonly string[];
  /** Pixels. */
  readonly input: { readonly height: number; readonly width: number };
  readonly classes: number;
  /** For the ImageNet family. */
  readonly stem: 'cifar' | 'imagenet';
}

export interface ModelDescription {
  readonly model: string;
  readonly parameters: number;
  /** Of convolutions and dense layers, forward, one image. */
  readonly multiplyAdds: number;
  readonly layers: number;
}

/** @throws DTRAIN_LIBRARY_MISSING (exit 4), DTRAIN_MODEL_UNKNOWN (exit 3). */
export async function describeModels(options: DescribeOptions): Promise<readonly ModelDescription[]> {
  const { input, classes, stem } = options;
  const request = { kind: 'cpu', count: 1 } as const;
  const { runtime, names } = openDevices({
    request,
    command: 'dtrain models',
    defaultWorkers: 1,
    threadsPerDevice: () => 1,
  });
  const engine = startEngine(runtime, names[0]!);
  return (options.names.length === 0 ? MODEL_NAMES : options.names).map((name) => {
    const model = makeModel(engine, { name, classes, shortcut: 'A', stem }, [input.height, input.width]);
    return { model: name, parameters: model.numParameters, multiplyAdds: model.multiplyAdds, layers: model.layers };
  });
}
