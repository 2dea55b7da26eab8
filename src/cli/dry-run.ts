/** `dtrain train --dry-run`: what would run, from the configuration and the machine's cores alone. Touches neither TensorFlow nor data. */

import os from 'node:os';
import { deriveBatch, deriveSteps, fittingWorkers } from '../config/derive.js';
import { modelName } from '../config/model-name.js';
import type { TrainOptions } from '../run/train.js';
import type { Context } from './context.js';
import { countText } from './number-text.js';

/** Training images of the data sets whose size is known before they are read. */
const TRAIN_IMAGES: Readonly<Record<string, number>> = { cifar10: 50_000, cifar100: 50_000 };

export function dryRun(
  { config, configName, devices, runDir, hosts }: TrainOptions,
  { console }: Pick<Context, 'console'>,
): number {
  const cores = os.availableParallelism();
  const numHosts = hosts?.addresses.length ?? 1;
  const workers = devices?.count ?? fittingWorkers(config, cores, numHosts);
  const kind = devices?.kind ?? 'cpu';
  const batch = deriveBatch(config, { workers: workers * numHosts, device: kind, cores, hosts: numHosts });
  const { data, model, train } = config;
  const trainImages = TRAIN_IMAGES[data.name] ?? null;
  const steps = trainImages === null ? { stepsPerEpoch: null, totalSteps: null } : deriveSteps(config, trainImages);
  const folder = runDir ?? `runs/${configName}-<time>`;
  if (console.isJson) {
    console.json({
      dryRun: true,
      config: configName,
      model: modelName(model),
      devices,
      ...(hosts && { hosts: hosts.addresses, hostRank: hosts.rank }),
      ...batch,
      globalBatch: train.globalBatch,
      trainImages,
      ...steps,
      runDir: folder,
    });
    return 0;
  }
  const { world, shards, shardBatch, localBatch, threadsPerWorker } = batch;
  const lines = [
    ['model', `${modelName(model)}, ${train.precision}`],
    ['devices', devicesAsked(devices, workers)],
    ...(hosts ? [['hosts', `${numHosts}, each as above; this is host ${hosts.rank}`]] : []),
    ['batch', `${train.globalBatch} images: ${world} x ${localBatch}, in ${shards} logical shards of ${shardBatch}`],
    ['threads', `${threadsPerWorker} a worker, of ${cores} cores`],
    ['data', trainImages === null ? data.name : `${data.name}, ${countText(trainImages)} training images`],
    ['steps', stepsText(steps, train)],
    ['run', folder],
  ];
  for (const [name, text] of lines) console.out(`${name!.padEnd(9)}${text}`);
  return 0;
}

function devicesAsked(devices: TrainOptions['devices'], workers: number): string {
  if (devices === null)
    return `all GPUs, else ${workers} CPU ${workers === 1 ? 'worker' : 'workers'} (as counted below)`;
  const noun = devices.kind === 'gpu' ? 'GPU' : 'CPU worker';
  return `${devices.count} ${noun}${devices.count === 1 ? '' : 's'}`;
}

function stepsText(
  { stepsPerEpoch, totalSteps }: { readonly stepsPerEpoch: number | null; readonly totalSteps: number | null },
  { epochs, maxSteps }: TrainOptions['config']['train'],
): string {
  const limit = maxSteps === null ? '' : `, at most ${countText(maxSteps)} steps`;
  if (stepsPerEpoch === null || totalSteps === null)
    return `${countText(epochs)} epochs${limit}; the data say how many steps`;
  return `${countText(totalSteps)}: ${countText(epochs)} epochs of ${countText(stepsPerEpoch)}${limit}`;
}
