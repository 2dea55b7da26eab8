/**
 * `dtrain train`: trains, prints events for people or programs, and turns signals into a stop after the step.
 * Must stay true: the flags are checked before the schema is loaded, and everything is checked before TensorFlow is.
 */
import os from 'node:os';
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { hostsOf, hostWords } from './hosts-of.js';
import { RunPrinter } from './run-printer.js';
import { StopOnSignal } from './stop-on-signal.js';
import { wordMeant } from './word-meant.js';

export async function trainCommand(flags: Flags, context: Context): Promise<number> {
  const overrides = flags.overrides(wordMeant);
  const devices = flags.devices();
  const file = flags.required('config', 'to begin, dtrain --config quickstart');
  const runDir = flags.text('run-dir') ?? null;
  const resume = flags.optionalText('resume');

  const words = hostWords(flags);

  // Before anything is loaded, so that whoever waits knows that something happens.
  if (!flags.isSet('dry-run')) context.console.say(`dtrain: starting ${file}`);
  const { configName, loadConfig } = await import('../config/load.js');
  const { deriveBatch } = await import('../config/derive.js');
  const config = loadConfig({ file, overrides });
  const hosts = await hostsOf(words, config, context);
  const numHosts = hosts?.addresses.length ?? 1;
  const cores = os.availableParallelism();
  if (devices !== null)
    deriveBatch(config, { workers: devices.count * numHosts, device: devices.kind, cores, hosts: numHosts });
  const options = { config, devices, runDir, configName: configName(file), hosts };
  if (flags.isSet('dry-run')) return (await import('./dry-run.js')).dryRun(options, context);

  const { console } = context;
  const isFirst = (hosts?.rank ?? 0) === 0; // host 0 tells people of the run
  const printer = new RunPrinter(console, config);
  using stop = new StopOnSignal((line) => console.complain(line));
  const events = context.run.train(
    {
      ...options,
      ...(resume !== undefined && { resume: { from: resume || null } }),
      onProgress: (progress) => !console.isJson && isFirst && printer.progress(progress),
      say: (line) => console.say(line),
    },
    stop.signal,
  );
  for await (const event of events) {
    if (console.isJson) console.json(event);
    else if (isFirst) printer.event(event);
    else if (event.event === 'end')
      console.say(`cluster: the run has ended after ${event.steps} steps; it is kept on host 0`);
  }
  return 0;
}
