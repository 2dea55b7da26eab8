/**
 * Attributes of operations, in the form that tfjs's kernels use: {name, type, value}; `type` numbers are TensorFlow's TF_AttrType.
 * A list value makes a list attribute (INT and TYPE only).
 */
import { internalError } from '../core/errors.js';
import type { Pointer } from './c-api.js';
import { DType } from './dtype.js';
import type { Runtime } from './runtime.js';

export const AttributeType = { string: 0, int: 1, float: 2, bool: 3, type: 4, shape: 5, tensor: 6 } as const;

export interface Attribute {
  readonly name: string;
  readonly type: number;
  readonly value: unknown;
}

const attribute = (name: string, type: number, value: unknown): Attribute => ({ name, type, value });

/** Makers of attributes, by type. */
export const attr = {
  string: (name: string, value: string | Uint8Array) => attribute(name, AttributeType.string, value),
  int: (name: string, value: number | readonly number[]) => attribute(name, AttributeType.int, value),
  float: (name: string, value: number) => attribute(name, AttributeType.float, value),
  bool: (name: string, value: boolean) => attribute(name, AttributeType.bool, value),
  type: (name: string, value: DType | readonly DType[]) => attribute(name, AttributeType.type, value),
  shape: (name: string, value: readonly number[]) => attribute(name, AttributeType.shape, value),
  tensor: (name: string, value: Pointer) => attribute(name, AttributeType.tensor, value),
};

/** The attribute that most operations take. */
export const FLOAT_T = attr.type('T', DType.float32);

/** A shape or a list of integers as C's int64_t array. */
export function int64s(values: readonly number[]): BigInt64Array {
  return BigInt64Array.from(values, BigInt);
}

/** `{T: 1, strides: [1,1,1,1]}`, for messages. */
export function attributesText(attributes: readonly Attribute[]): string {
  return `{${attributes.map(({ name, value }) => `${name}: ${Array.isArray(value) ? `[${value}]` : value}`).join(', ')}}`;
}

/** Sets one attribute of an operation: of a graph (`TF_SetAttr`) or of an eager one (`TFE_OpSetAttr`). */
export function setAttribute(
  { c, status }: Pick<Runtime, 'c' | 'status'>,
  family: 'TF_SetAttr' | 'TFE_OpSetAttr',
  target: Pointer,
  { name, type, value }: Attribute,
): void {
  const list = Array.isArray(value) ? (value as number[]) : undefined;
  switch (type) {
    case AttributeType.string:
      return c[`${family}String`](target, name, value as string, Buffer.byteLength(value as string));
    case AttributeType.int:
      if (list) return c[`${family}IntList`](target, name, int64s(list), list.length);
      return c[`${family}Int`](target, name, BigInt(Math.trunc(value as number))); // tfjs's seeds are fractions
    case AttributeType.float:
      return c[`${family}Float`](target, name, value as number);
    case AttributeType.bool:
      return c[`${family}Bool`](target, name, value ? 1 : 0);
    case AttributeType.type:
      if (list) return c[`${family}TypeList`](target, name, Int32Array.from(list), list.length);
      return c[`${family}Type`](target, name, value as number);
    case AttributeType.shape: {
      const dims = int64s(list ?? []);
      if (family === 'TF_SetAttr') return c.TF_SetAttrShape(target, name, dims, dims.length);
      c.TFE_OpSetAttrShape(target, name, dims, dims.length, status.pointer);
      return status.check(() => `attribute ${name}`);
    }
    case AttributeType.tensor:
      if (family !== 'TF_SetAttr') break;
      c.TF_SetAttrTensor(target, name, value as Pointer, status.pointer);
      return status.check(() => `attribute ${name}`);
  }
  throw internalError(`attribute ${name} of type ${type} cannot be set`);
}
