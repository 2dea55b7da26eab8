/** `dtrain setup` and `dtrain doctor`: thin doors to what installs and what checks. */
import fs from 'node:fs';
import { cacheFolder } from '../core/home.js';
import type { Context } from './context.js';
import type { Flags } from './flags.js';

/** There is a driver where the kernel module is loaded. */
const NVIDIA_DRIVER = '/proc/driver/nvidia/version';

export async function setupCommand(flags: Flags, { console, env }: Context): Promise<number> {
  if (flags.isSet('cpu') && flags.isSet('gpu')) flags.fail('--cpu and --gpu exclude each other: choose one.');
  const hasDriver = fs.existsSync(NVIDIA_DRIVER);
  const variant = flags.isSet('gpu') || (hasDriver && !flags.isSet('cpu')) ? 'gpu' : 'cpu';
  const { installTensorFlow } = await import('../tensorflow/install.js');
  await installTensorFlow({ variant, cacheFolder: cacheFolder(env), env, say: (line) => console.say(line) });
  return 0;
}

export async function doctorCommand(_flags: Flags, context: Context): Promise<number> {
  const { doctor } = await import('./doctor.js');
  return doctor(context);
}
