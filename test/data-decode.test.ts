/** Pixels against Pillow's (test/golden/images.py), and images that are refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import sharp from 'sharp';
import { DtrainError } from '../src/core/errors.js';
import { decodeImages, type EncodedImage } from '../src/data/decode-images.js';
import { readImageHeader } from '../src/data/image-header.js';
import { stackJpegs } from '../src/data/jpeg-stack.js';
import { dataFault, imageFile } from './support/data-fixtures.js';
import { readGoldenJson } from './support/golden.js';

interface GoldenImage {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  /** Of Pillow's RGB pixels. */
  readonly crc32: number;
  /** Base64. */
  readonly file: string;
}

const { cases } = readGoldenJson<{ cases: readonly GoldenImage[] }>('images.json');
const SIZE = { width: 20, height: 28 };

const encoded = (name: string, bytes: Uint8Array): EncodedImage => ({ name, read: () => bytes });
const golden = ({ name, file }: GoldenImage) => encoded(name, Buffer.from(file, 'base64'));

async function crcs(images: readonly EncodedImage[], size: { width: number; height: number }): Promise<number[]> {
  const bytes = size.width * size.height * 3;
  const pixels = new Uint8Array(images.length * bytes);
  await decodeImages(images, size, pixels);
  return images.map((_, i) => crc32(pixels.subarray(i * bytes, (i + 1) * bytes)));
}

for (const image of cases) {
  test(`${image.name}: Pillow's pixels`, async () => {
    assert.deepEqual(await crcs([golden(image)], image), [image.crc32]);
  });
}

test('decoded together they have the same pixels, whatever follows what', async () => {
  const sized = cases.filter(({ width, height }) => width === SIZE.width && height === SIZE.height);
  assert.ok(sized.length > 20);
  for (const order of [sized, sized.toReversed(), sized.toSorted((a, b) => a.crc32 - b.crc32)]) {
    assert.deepEqual(
      await crcs(order.map(golden), SIZE),
      order.map((image) => image.crc32),
    );
  }
});

for (const family of ['4:2:0', '4:2:2', '4:4:4', 'grey', 'optimised tables', 'restart markers']) {
  test(`${family}: one call decodes a stack of them`, async () => {
    const files = cases
      .filter(({ name }) => name.startsWith(`${family} `))
      .map(({ file }) => Buffer.from(file, 'base64'));
    const { sampling } = readImageHeader(family, files[0]!);
    assert.ok(files.length > 1 && sampling !== null);
    const stacked = await sharp(stackJpegs(files, SIZE, sampling))
      .raw()
      .toBuffer();
    const singly = await Promise.all(files.map((file) => sharp(file).raw().toBuffer()));
    assert.ok(stacked.equals(Buffer.concat(singly)));
  });
}

test('what is out of the ordinary is decoded alone', () => {
  const alone = cases.filter(({ file, name }) => readImageHeader(name, Buffer.from(file, 'base64')).sampling === null);
  const names = alone.map(({ name }) => name).filter((name) => !name.startsWith('png'));
  assert.deepEqual(names, ['progressive', 'RGB without conversion']);
});

test('more images than one call takes', async () => {
  const stackable = cases.slice(0, 3);
  const many = Array.from({ length: 700 }, (_, i) => stackable[i % 3]!);
  assert.deepEqual(
    await crcs(many.map(golden), SIZE),
    many.map((image) => image.crc32),
  );
});

test('progress counts every image', async () => {
  const reports: number[] = [];
  const images = cases.slice(0, 7).map(golden);
  await decodeImages(images, SIZE, new Uint8Array(7 * 20 * 28 * 3), (done) => reports.push(done));
  assert.equal(reports.at(-1), 7);
});

/** Decodes `bytes` between two sound images. */
async function decodeAmongOthers(bytes: Uint8Array): Promise<void> {
  const images = [golden(cases[0]!), encoded('cat/bad.jpg', bytes), golden(cases[1]!)];
  await decodeImages(images, SIZE, new Uint8Array(3 * 20 * 28 * 3));
}

const jpeg = Buffer.from(cases[0]!.file, 'base64');
const scanStart = jpeg.indexOf(Buffer.from([0xff, 0xda]));

test('a JPEG that ends early', async () => {
  const message = 'cat/bad.jpg: does not decode (VipsJpeg: premature end of JPEG image). Replace or remove it.';
  await assert.rejects(
    decodeAmongOthers(jpeg.subarray(0, jpeg.length - 40)),
    dataFault('DTRAIN_DATA_CORRUPT', message),
  );
});

test('a JPEG with a hole in its data', async () => {
  const holed = Buffer.from(jpeg).fill(0xff, scanStart + 30, scanStart + 60);
  await assert.rejects(decodeAmongOthers(holed), {
    code: 'DTRAIN_DATA_CORRUPT',
    message: /^cat\/bad\.jpg: does not decode \(VipsJpeg: .*\)\. Replace or remove it\.$/,
  });
});

test('a PNG with a wrong checksum', async () => {
  const png = Buffer.from(cases.find(({ name }) => name === 'png RGB')!.file, 'base64');
  png[png.length - 30]! ^= 1;
  await assert.rejects(decodeAmongOthers(png), {
    code: 'DTRAIN_DATA_CORRUPT',
    message: /^cat\/bad\.jpg: does not decode \(.*\)\. Replace or remove it\.$/,
  });
});

test('any change of a header gives a header or a data error', () => {
  const files = cases.filter((_, i) => i % 3 === 0).map(({ file }) => Buffer.from(file, 'base64').subarray(0, 700));
  fc.assert(
    fc.property(fc.constantFrom(...files), fc.nat(699), fc.nat(255), fc.nat(700), (file, at, value, length) => {
      const changed = Buffer.from(file.subarray(0, length));
      if (at < changed.length) changed[at] = value;
      try {
        const { height, width } = readImageHeader('x', changed);
        assert.ok(height >= 1 && height <= 4096 && width >= 1 && width <= 4096);
      } catch (error) {
        assert.ok(error instanceof DtrainError && error.code === 'DTRAIN_DATA_CORRUPT', String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

const REFUSED: readonly [what: string, bytes: Uint8Array | Promise<Uint8Array>, code: string, message: string][] = [
  [
    'an empty file',
    new Uint8Array(0),
    'CORRUPT',
    'expected a JPEG or PNG image, got an empty file. Replace or remove it.',
  ],
  [
    'a text',
    Buffer.from('<svg></svg>'),
    'CORRUPT',
    'expected a JPEG or PNG image, got 11 bytes that begin with 3c737667. Replace or remove it.',
  ],
  [
    'a JPEG without a frame',
    jpeg.subarray(0, 40),
    'CORRUPT',
    'expected a JPEG or PNG image, got 40 bytes that begin with ffd8ffe0. Replace or remove it.',
  ],
  [
    'another size',
    imageFile('png', 1, 1, { width: 28, height: 20 }),
    'LAYOUT',
    'expected 20x28 pixels, got 28x20. All images of a set have one size: set data.size to scale them.',
  ],
  ['too large a picture', withPngSize(4097, 1), 'CORRUPT', 'expected 1 to 4096 pixels a side, got 4097x1. Scale it.'],
  ['no height', withPngSize(20, 0), 'CORRUPT', 'expected 1 to 4096 pixels a side, got 20x0. Scale it.'],
  ['sixteen bits', sixteenBits(), 'CORRUPT', 'expected 8 bits a colour, got 16. Convert it to 8 bits.'],
  ['CMYK', cmyk(), 'CORRUPT', 'expected grey or RGB, got CMYK. Convert it to RGB.'],
];

for (const [what, bytes, code, message] of REFUSED) {
  test(`refused: ${what}`, async () => {
    await assert.rejects(decodeAmongOthers(await bytes), dataFault(`DTRAIN_DATA_${code}`, `cat/bad.jpg: ${message}`));
  });
}

/** The header of a picture that would take gigabytes. */
async function withPngSize(width: number, height: number): Promise<Uint8Array> {
  const png = Buffer.from(await imageFile('png', 1));
  png.writeUInt32BE(width, 16);
  png.writeUInt32BE(height, 20);
  return png;
}

function sixteenBits(): Promise<Uint8Array> {
  const pixels = sharp({ create: { ...SIZE, channels: 3, background: 'red' } }).toColourspace('rgb16');
  return pixels.png().toBuffer();
}

function cmyk(): Promise<Uint8Array> {
  return sharp({ create: { ...SIZE, channels: 3, background: 'red' } })
    .toColourspace('cmyk')
    .jpeg()
    .toBuffer();
}
