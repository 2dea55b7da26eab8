/** Element types by TensorFlow's numbers (TF_DataType), and the typed arrays that hold them. */

export const DType = {
  float32: 1,
  uint8: 4,
  int32: 3,
  string: 7,
  complex64: 8,
  int64: 9,
  bool: 10,
  bfloat16: 14,
  resource: 20,
} as const;
export type DType = (typeof DType)[keyof typeof DType];

/** Host arrays that carry a tensor's elements: float32, int32, and uint8 (also for bool). */
export type Values = Float32Array | Int32Array | Uint8Array;

/** Also int64, and strings as their bytes. complex64 is float32, real and imaginary parts in turn. */
export type HostValues = Values | BigInt64Array | readonly Uint8Array[];

/** The element type that an array's class stands for. */
export function dtypeOf(values: Values): DType {
  if (values instanceof Float32Array) return DType.float32;
  return values instanceof Int32Array ? DType.int32 : DType.uint8;
}

export function dtypeName(dtype: number): string {
  return Object.entries(DType).find(([, value]) => value === dtype)?.[0] ?? `type ${dtype}`;
}
