/** Small data sets on disk, in temporary folders that the test removes. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import { xz } from '@napi-rs/lzma';
import { packTar } from 'modern-tar';
import sharp from 'sharp';
import { CIFAR10_FILE_BYTES, CIFAR10_FILES } from '../../src/data/cifar10.js';

/** Removed with all that is in it when the test ends. */
export function temporaryFolder(t: TestContext): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-data-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A file of one colour, red and green as given. */
export async function imageFile(
  format: 'png' | 'jpeg',
  red: number,
  green = 100,
  { width = 8, height = 6 } = {},
): Promise<Uint8Array> {
  const image = sharp({ create: { width, height, channels: 3, background: { r: red, g: green, b: 50 } } });
  return image.toFormat(format, { quality: 95, chromaSubsampling: '4:4:4' }).toBuffer();
}

/** Path inside the tree -> bytes. */
export type Files = Readonly<Record<string, Uint8Array>>;

/** Two classes, `cat` and `dog`: three images for training, two for the test, each of another red. */
export async function smallTree(): Promise<Files> {
  return {
    'train/dog/b.png': await imageFile('png', 30),
    'train/dog/a.png': await imageFile('png', 20),
    'train/cat/x.png': await imageFile('png', 10),
    'test/dog/a.png': await imageFile('png', 50),
    'test/cat/a.png': await imageFile('png', 40),
  };
}

export function writeFiles(folder: string, files: Files): void {
  for (const [name, bytes] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    fs.writeFileSync(path.join(folder, name), bytes);
  }
}

export function tarOf(files: Files): Promise<Uint8Array> {
  return packTar(
    Object.entries(files).map(([name, body]) => ({ header: { name, size: body.length, mtime: new Date(0) }, body })),
  );
}

export const gzip = (bytes: Uint8Array): Uint8Array => gzipSync(bytes, { level: 1 });
export const toXz = (bytes: Uint8Array): Promise<Uint8Array> => xz.compress(bytes);

/** The six official files, full size: record r of file f has label r mod 10 and planes of r, r + 1, r + 2 plus 10 f (mod 256). */
export function officialFiles(): Record<string, Uint8Array> {
  return Object.fromEntries(
    CIFAR10_FILES.map((name, file) => {
      const bytes = new Uint8Array(CIFAR10_FILE_BYTES);
      for (let record = 0; record < 10_000; record++) {
        const at = record * 3073;
        bytes[at] = record % 10;
        for (let plane = 0; plane < 3; plane++) {
          bytes.fill(record + plane + 10 * file, at + 1 + plane * 1024, at + 1 + (plane + 1) * 1024);
        }
      }
      return [name, bytes];
    }),
  );
}

/** What a call must throw: code, exit code 5, and the whole message. */
export function dataFault(code: string, message: string): { code: string; exitCode: number; message: string } {
  return { code, exitCode: 5, message };
}
