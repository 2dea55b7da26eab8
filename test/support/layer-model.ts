/** Any layers as a model: described the way the catalogue describes its own. */

import { sizeOf } from '../../src/core/shape.js';
import type { Engine } from '../../src/graph/engine.js';
import type { Tensor, Tensor4D } from '../../src/graph/tfjs.js';
import type { Model } from '../../src/model/catalogue.js';
import { DescribingNet, type ModelFunction } from '../../src/model/net.js';

export type ImageShape = readonly [n: number, h: number, w: number, c: number];

/** `forward` for images of `imageShape`; `classes` are what its output has. Multiply-adds and layers are not counted. */
export function modelOf(engine: Engine, forward: ModelFunction, imageShape: ImageShape, classes = 0): Model {
  let net: DescribingNet | undefined;
  engine.trace(() => {
    net = new DescribingNet((shape): Tensor => engine.placeholder(shape));
    forward(net, engine.placeholder(imageShape) as Tensor4D);
  });
  const { parameters, statistics } = net!;
  const numParameters = parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  return { name: 'layers', classes, forward, parameters, statistics, numParameters, multiplyAdds: 0, layers: 0 };
}
