/** What is fuzzed: every reader of bytes that may come from somebody else. */
import fs from 'node:fs';
import path from 'node:path';
import { loadConfig } from '../../src/config/load.js';
import { type Fs, realFs } from '../../src/core/file-system.js';
import { decodeSafetensors, decodeSafetensorsMetadata } from '../../src/core/safetensors.js';
import { readArchive } from '../../src/data/archive.js';
import { CIFAR10_FILE_BYTES, checkCifar10FileSize, copyRecords } from '../../src/data/cifar10.js';
import { allocateImageSet } from '../../src/data/data-set.js';
import { readImageHeader } from '../../src/data/image-header.js';
import { CHECKPOINT_FILES, openCheckpoint } from '../../src/train/checkpoint.js';
import { canonical, decodeManifest, encodeManifest, type Manifest, sha256 } from '../../src/train/manifest.js';
import { saveCheckpoint } from '../../src/train/save-checkpoint.js';
import { saveOptions } from './checkpoints.js';
import { gzip, imageFile, tarOf, toXz } from './data-fixtures.js';
import type { FuzzTarget } from './fuzz.js';
import type { SeededRandom } from './seeded-random.js';
import { temporaryFolder } from './train-run.js';

const CURE = 'Replace it.';

export const FUZZ_TARGETS: Readonly<Record<string, () => Promise<FuzzTarget>>> = {
  'YAML configuration': yamlTarget,
  'checkpoint manifest': manifestTarget,
  'checkpoint state (msgpack)': stateTarget,
  safetensors: safetensorsTarget,
  'CIFAR-10 file': cifarTarget,
  'archive (tar, gzip, xz)': archiveTarget,
  'image header (JPEG, PNG)': imageTarget,
};

async function yamlTarget(): Promise<FuzzTarget> {
  const file = path.join(memoryFolder(), 'config.yaml');
  const texts = [
    'model: {name: resnet20, shortcut: A}\ntrain:\n  epochs: 3\n  globalBatch: 128\n  precision: float32\n',
    'data:\n  name: synthetic\n  augment: {crop: 4, flip: true, cutout: 8}\n',
    'schedule:\n  name: multi-step\n  learningRate: 0.1\n  milestones: [0.5, 0.75]\n  factor: 0.1\n',
    'checkpoint:\n  everySteps: 200\n  keep: 3\n# a comment\nallReduce: {timeoutSeconds: 60}\n',
    '{}\n',
  ];
  const words = [
    '&a ',
    '*a',
    '<<: ',
    '!!js ',
    '!',
    '%YAML 1.1\n',
    '---\n',
    '...\n',
    '{',
    '}',
    '[',
    ']',
    '\t',
    '|\n',
    '>',
    '? ',
  ]
    .concat([
      '.nan',
      '.inf',
      '1e999',
      '0x10',
      '010',
      '~',
      'null',
      'yes',
      '__proto__: 1',
      'constructor',
      '\u0000',
      '\u2028',
    ])
    .concat([
      '\ufeff',
      '\r',
      '"',
      "'",
      ': ',
      ', ',
      '- ',
      '# ',
      '1234567890123456789012',
      'model.name: x\n',
      '[[[[[[[[',
      '\ud83d\ude00',
    ]);
  return {
    name: 'YAML configuration',
    seeds: texts.map((text) => Buffer.from(text)),
    words,
    exitCode: 3,
    parse: (bytes, random) => {
      if (random.below(4) === 0) return loadConfig({ overrides: [Buffer.from(bytes).toString().replace(/:\s*/, '=')] });
      fs.writeFileSync(file, bytes);
      return loadConfig({ file });
    },
  };
}

/** Half of the cases are changed inside and summed anew, or the sum would hide all other checks. */
async function manifestTarget(): Promise<FuzzTarget> {
  const { manifest } = savedCheckpoint();
  const whole = encodeManifest(manifest);
  return {
    name: 'checkpoint manifest',
    seeds: [whole],
    words: [
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      'null',
      '1e999',
      '-1',
      '0.5',
      '"__proto__":',
      '\u0000',
      '\\u0000',
      '99999999999999999999',
      'true',
    ],
    exitCode: 6,
    parse: (bytes, random) =>
      decodeManifest(random.below(2) === 0 ? bytes : resummed(manifest, random), 'manifest.json'),
  };
}

const ODD_VALUES: readonly unknown[] = [
  null,
  -1,
  0.5,
  2 ** 53,
  '',
  'x'.repeat(5000),
  [],
  {},
  [null],
  true,
  '../x',
  1e308,
  '__proto__',
];

function resummed(manifest: Manifest, random: SeededRandom): Uint8Array {
  const copy = JSON.parse(JSON.stringify(manifest)) as Record<string, unknown>;
  let place: Record<string, unknown> = copy;
  for (let depth = random.below(4); depth >= 0; depth--) {
    const keys = Object.keys(place);
    if (keys.length === 0) break;
    const key = random.pick(keys);
    const inner = place[key];
    if (depth > 0 && typeof inner === 'object' && inner !== null) place = inner as Record<string, unknown>;
    else {
      const way = random.below(4);
      if (way === 0) delete place[key];
      else if (way === 1 && !Array.isArray(place)) place[random.pick(['extra', '__proto__', 'constructor'])] = 1;
      else place[key] = structuredClone(random.pick(ODD_VALUES)); // its own, or a later case may put one into itself
    }
  }
  return Buffer.from(`${canonical({ ...copy, hash: sha256(canonical(copy)) })}\n`);
}

/** A checkpoint whose state is the case, with a manifest that says so. */
async function stateTarget(): Promise<FuzzTarget> {
  const { files, manifest } = savedCheckpoint();
  const state = files.get('state.msgpack')!;
  const odd = [
    '\xc7\x08\x78',
    '\xd4\x72\x40',
    '\xd6\xff',
    '\xc1',
    '\xdf\xff\xff\xff\xff',
    '\xdd\xff\xff\xff\xff',
    '\xdb\xff\xff\xff\xff',
    '\xcf',
    '\xd3',
  ];
  return {
    name: 'checkpoint state (msgpack)',
    seeds: [state],
    words: [...odd.map((text) => Buffer.from(text, 'latin1')), 'step', 'progress', '__proto__'],
    exitCode: 6,
    parse: (bytes) => {
      const facts = { bytes: bytes.length, sha256: sha256(bytes) };
      const summed = encodeManifest({ ...manifest, files: { ...manifest.files, 'state.msgpack': facts } });
      const all = new Map<string, Uint8Array>([...files, ['state.msgpack', bytes], ['manifest.json', summed]]);
      return openCheckpoint('/checkpoint', readingFs(all));
    },
  };
}

async function safetensorsTarget(): Promise<FuzzTarget> {
  const { files } = savedCheckpoint();
  const small = headerFile('{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}', 8);
  return {
    name: 'safetensors',
    seeds: [files.get('weights.safetensors')!, small, headerFile('{}', 0)],
    words: [
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '"x":',
      'F32',
      'BF16',
      'I64',
      'F8',
      '1e400',
      '-1',
      '0.5',
      '9007199254740993',
      '\u0000\u0000\u0000\u0000',
    ],
    exitCode: 6,
    parse: (bytes) => [decodeSafetensors(bytes, 'file'), decodeSafetensorsMetadata(bytes, 'file')],
  };
}

function headerFile(header: string, dataBytes: number): Uint8Array {
  const bytes = Buffer.alloc(8 + header.length + dataBytes);
  bytes.writeBigUInt64LE(BigInt(header.length));
  bytes.write(header, 8);
  return bytes;
}

/** Records of a file, and now and then the size of a whole one. */
async function cifarTarget(): Promise<FuzzTarget> {
  const record = 3073;
  const seed = Buffer.alloc(4 * record, 7);
  for (let i = 0; i < 4; i++) seed[i * record] = i;
  const set = allocateImageSet({ count: 32, height: 32, width: 32 });
  return {
    name: 'CIFAR-10 file',
    seeds: [seed, seed.subarray(0, record), Buffer.alloc(0)],
    words: ['\u0000', '\u0009', '\n', '\u007f'],
    exitCode: 5,
    parse: (bytes, random) => {
      const cut = bytes.length - seed.length;
      checkCifar10FileSize('data_batch_1.bin', CIFAR10_FILE_BYTES + (random.below(2) === 0 ? 0 : cut), CURE);
      copyRecords('data_batch_1.bin', bytes, set, 0, CURE);
    },
  };
}

async function archiveTarget(): Promise<FuzzTarget> {
  const file = path.join(memoryFolder(), 'set.tar');
  const tar = await tarOf({
    'set/train/a.txt': Buffer.from('a'),
    'set/b.txt': Buffer.alloc(700, 1),
    'c.txt': Buffer.from(''),
  });
  const words = [
    '../',
    '/etc/passwd',
    'ustar\u000000',
    '0',
    '7777777',
    '\u0000',
    'L',
    'x',
    '2',
    '1',
    '5',
    '30 mtime=1\n',
    'path=../x',
  ];
  return {
    name: 'archive (tar, gzip, xz)',
    seeds: [tar, tar, tar, gzip(tar), await toXz(tar)],
    words: [...words, '\u001f', '\ufffd'],
    exitCode: 5,
    parse: async (bytes) => {
      fs.writeFileSync(file, bytes);
      const members = await readArchive(file, () => true, CURE);
      for (const { path: name } of members) {
        if (name.split('/').includes('..') || path.isAbsolute(name)) throw new Error(`a path outside: ${name}`);
      }
    },
  };
}

async function imageTarget(): Promise<FuzzTarget> {
  return {
    name: 'image header (JPEG, PNG)',
    seeds: [await imageFile('png', 10), await imageFile('jpeg', 10)],
    words: ['\u0000\u0000', 'IHDR', 'Exif', '\u0010\u0000'],
    exitCode: 5,
    parse: (bytes) => readImageHeader('image', bytes),
  };
}

let saved: { files: Map<string, Uint8Array>; manifest: Manifest } | undefined;

function savedCheckpoint(): { files: Map<string, Uint8Array>; manifest: Manifest } {
  if (saved) return saved;
  const folder = saveCheckpoint(saveOptions(temporaryFolder()));
  const files = new Map(
    CHECKPOINT_FILES.map((name) => [name as string, realFs.read(path.join(folder, name)) as Uint8Array]),
  );
  const manifest = decodeManifest(realFs.read(path.join(folder, 'manifest.json')), '');
  saved = { files, manifest };
  return saved;
}

/** A folder with these files, for reading alone. */
function readingFs(files: ReadonlyMap<string, Uint8Array>): Fs {
  return {
    ...realFs,
    entry: (place) => {
      const bytes = files.get(path.basename(place))?.length;
      return bytes === undefined ? undefined : { kind: 'file', bytes, inode: 1 };
    },
    read: (file) => Buffer.from(files.get(path.basename(file))!),
  };
}

/** In memory where the system has such a folder: a file is written for each case. */
function memoryFolder(): string {
  if (!fs.existsSync('/dev/shm')) return temporaryFolder();
  const folder = fs.mkdtempSync('/dev/shm/dtrain-fuzz-');
  process.once('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}
