/** A value of a recording: one output of one operation. Casts of it are made once and kept here. */
import type { Shape } from '../core/shape.js';
import type { DType } from '../tensorflow/dtype.js';
import type { NodeOutput } from '../tensorflow/graph-builder.js';

export class GraphValue {
  /** The recording it belongs to; only compared. */
  readonly recording: object;
  readonly output: NodeOutput;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly casts = new Map<DType, GraphValue>();

  constructor(recording: object, output: NodeOutput, dtype: DType, shape: Shape) {
    this.recording = recording;
    this.output = output;
    this.dtype = dtype;
    this.shape = shape;
  }
}
