/** `dtrain setup` and `dtrain doctor`: thin doors to what installs and what checks. */
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { cacheFolder } from '../core/home.js';
import type { LibraryVariant } from '../tensorflow/install-manifest.js';
import type { Context } from './context.js';
import type { Flags } from './flags.js';

/** There is a driver where the kernel module is loaded. */
const NVIDIA_DRIVER = '/proc/driver/nvidia/version';
/** A file of FAT32, which most sticks have, may have up to 4 GiB; hosts for files often allow less. */
const PART_BYTES = 1e9;
/** Smaller blocks would compress badly. */
const LEAST_PART_BYTES = 1e6;

export async function setupCommand(flags: Flags, context: Context): Promise<number> {
  if (flags.isSet('cpu') && flags.isSet('gpu')) flags.fail('--cpu and --gpu exclude each other: choose one.');
  const [bundle, fromBundle] = [flags.text('bundle'), flags.text('from-bundle')];
  if (bundle !== undefined && fromBundle !== undefined)
    flags.fail('--bundle and --from-bundle exclude each other: one writes, the other installs.');
  if (bundle === undefined) {
    for (const [name, isGiven] of [
      ['part-size', flags.text('part-size') !== undefined],
      ['with-node', flags.isSet('with-node')],
    ] as const)
      if (isGiven) flags.fail(`--${name} goes with --bundle DIR.`);
  }
  if (fromBundle !== undefined) return fromBundleCommand(fromBundle, flags, context);
  const { console, env } = context;
  const partBytes = flags.size('part-size', PART_BYTES, LEAST_PART_BYTES);
  const variant = askedVariant(flags) ?? (fs.existsSync(NVIDIA_DRIVER) ? 'gpu' : 'cpu');
  const say = (line: string) => console.say(line);
  const node = flags.isSet('with-node') ? await ownNode() : null;
  const { installTensorFlow } = await import('../tensorflow/install.js');
  const { folder } = await installTensorFlow({ variant, cacheFolder: cacheFolder(env), env, say });
  if (bundle === undefined) return 0;
  const { writeBundle } = await import('../bundle/write-bundle.js');
  const program = fileURLToPath(new URL('../../../', import.meta.url));
  await writeBundle({ folder: bundle, partBytes, library: folder, variant, program, node, say });
  return 0;
}

async function fromBundleCommand(folder: string, flags: Flags, { console, env }: Context): Promise<number> {
  const { installBundle } = await import('../bundle/install-bundle.js');
  const say = (line: string) => console.say(line);
  await installBundle({ folder, cacheFolder: cacheFolder(env), asked: askedVariant(flags), say });
  return 0;
}

function askedVariant(flags: Flags): LibraryVariant | null {
  if (flags.isSet('gpu')) return 'gpu';
  return flags.isSet('cpu') ? 'cpu' : null;
}

async function ownNode() {
  const { portableNode } = await import('../bundle/portable-node.js');
  return portableNode(process.execPath, process.version, process.config.variables);
}

export async function doctorCommand(_flags: Flags, context: Context): Promise<number> {
  const { doctor } = await import('./doctor.js');
  return doctor(context);
}
