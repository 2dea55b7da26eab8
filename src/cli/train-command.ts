/**
 * `dtrain train`: trains in a process of its own (run/supervise.ts), prints events for people or programs, and turns signals into a stop
 * after the step, or at once.
 * Must stay true: the flags are checked before the schema is loaded; nothing that loads native code is imported here.
 */
import os from 'node:os';
import type { MetricsAddress } from '../run/metrics-server.js';
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { Heartbeat } from './heartbeat.js';
import { hostsOf, hostWords } from './hosts-of.js';
import { RunPrinter } from './run-printer.js';
import { StopOnSignal } from './stop-on-signal.js';
import { wordMeant } from './word-meant.js';

/** In a row, without a new checkpoint between them. */
const DEFAULT_RESTARTS = 3;
const MAX_RESTARTS = 1000;
/** A step of a rank is six spans of the picture. */
const MAX_PROFILE_STEPS = 10_000;
const MAX_PORT = 65_535;

export async function trainCommand(flags: Flags, context: Context): Promise<number> {
  const overrides = flags.overrides(wordMeant);
  const devices = flags.devices();
  const file = flags.required('config', 'to begin, dtrain --config quickstart');
  const runDir = flags.text('run-dir') ?? null;
  const resume = flags.optionalText('resume');
  const maxRestarts = flags.count('max-restarts', DEFAULT_RESTARTS, { min: 0, max: MAX_RESTARTS });
  const isDry = flags.isSet('dry-run');
  const profileSteps = flags.count('profile', null, { min: 1, max: MAX_PROFILE_STEPS });
  const metrics = metricsAddress(flags);

  const words = hostWords(flags);

  const { console } = context;
  using stop = new StopOnSignal((line) => console.complain(line));
  if (!isDry) {
    // Before anything is loaded, so that whoever waits knows that something happens.
    console.say(`dtrain: starting ${file}`);
    await context.run.prepareEngine();
  }
  const { configName, loadConfig } = await import('../config/load.js');
  const { deriveBatch } = await import('../config/derive.js');
  const config = loadConfig({ file, overrides });
  const hosts = await hostsOf(words, config, context);
  const numHosts = hosts?.addresses.length ?? 1;
  const cores = os.availableParallelism();
  if (devices !== null)
    deriveBatch(config, { workers: devices.count * numHosts, device: devices.kind, cores, hosts: numHosts });
  const options = { config, devices, runDir, configName: configName(file), hosts };
  if (isDry) return (await import('./dry-run.js')).dryRun(options, context);

  using _heartbeat = new Heartbeat(context.env['DTRAIN_HEARTBEAT'], (line) => console.complain(line));
  const isFirst = (hosts?.rank ?? 0) === 0; // host 0 tells people of the run
  const printer = new RunPrinter(console, config);
  using server = metrics && (await context.run.openMetrics(metrics));
  if (server) console.say(`metrics: ${server.url}`);
  const events = context.run.train(
    {
      ...options,
      ...(resume !== undefined && { resume: { from: resume || null } }),
      ...(profileSteps !== null && { profileSteps }),
      onProgress: (progress) => {
        server?.progress(progress);
        if (!console.isJson && isFirst) printer.progress(progress);
      },
      say: (line) => console.say(line),
      warn: (line) => console.complain(line),
    },
    stop.signal,
    { atOnce: stop.atOnce, maxRestarts },
  );
  for await (const event of events) {
    server?.event(event);
    if (console.isJson) console.json(event);
    else if (isFirst) printer.event(event);
    else if (event.event === 'end')
      console.say(`cluster: the run has ended after ${event.steps} steps; it is kept on host 0`);
  }
  return 0;
}

/** Undefined where nobody asked for metrics. */
function metricsAddress(flags: Flags): MetricsAddress | undefined {
  const port = flags.count('metrics-port', undefined, { min: 0, max: MAX_PORT });
  const host = flags.text('metrics-host');
  if (port === undefined && host !== undefined)
    flags.fail('--metrics-host: expected --metrics-port beside it, got none.');
  return port === undefined ? undefined : { host: host ?? '127.0.0.1', port };
}
