/** What a host brings to the meeting of several hosts, so that a difference is found before the first step. */
import type { HostFacts } from '../cluster/rendezvous.js';
import type { BatchPlan } from '../config/derive.js';
import { configEntries } from '../config/print-config.js';
import type { RunConfig } from '../config/schema.js';
import type { Measured } from '../data/data-set.js';
import type { Model } from '../model/catalogue.js';
import type { RunDevices } from './devices.js';
import { packageVersion } from './version.js';

/** Keys that say where this host is, how patient it is, or where its files lie. First weights come from host 0. */
const MAY_DIFFER = ['cluster.hosts', 'cluster.hostRank', 'cluster.waitSeconds', 'data.path', 'model.initFrom'];

export function hostFacts({
  config,
  data,
  model,
  batch,
  devices,
  hosts,
}: {
  readonly config: RunConfig;
  readonly data: Pick<Measured, 'fingerprint'>;
  readonly model: Pick<Model, 'codeHash'>;
  readonly batch: BatchPlan;
  readonly devices: RunDevices;
  readonly hosts: number;
}): HostFacts {
  const entries = configEntries(config)
    .filter(([key]) => !MAY_DIFFER.includes(key))
    .map(([key, value]) => [key, JSON.stringify(value)] as const);
  const { world, shards, threadsPerWorker } = batch;
  return {
    version: `${packageVersion()} with TensorFlow ${devices.runtime.c.TF_Version()}`,
    data: data.fingerprint,
    workers: world / hosts,
    shards,
    devices: devices.kind,
    threadsPerWorker: devices.kind === 'cpu' ? threadsPerWorker : null,
    config: {
      ...Object.fromEntries(entries),
      ...(model.codeHash !== undefined && { 'code of model.module': model.codeHash.slice(0, 12) }),
    },
  };
}
