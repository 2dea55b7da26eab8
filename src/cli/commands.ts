/**
 * The commands of dtrain as a table: words, flags, and where each is done.
 *
 * Idea: yargs, the usage lines, the help and the frozen list in the tests are all made of this table.
 * Must stay true: names of commands and flags are public (contract, "Commands"); nothing is imported before a command runs.
 */
import type { Context } from './context.js';
import type { Flags } from './flags.js';

export interface FlagSpec {
  /** What stands after the flag; undefined for a switch. */
  readonly value?: string;
  /** The flag may stand without its value. */
  readonly isOptional?: boolean;
  readonly describe: string;
}

export interface Command {
  /** `train`, or with its group: `bench step`. */
  readonly name: string;
  /** Words after it, in yargs's notation. */
  readonly words: string;
  readonly usage: string;
  readonly describe: string;
  readonly flags: Readonly<Record<string, FlagSpec>>;
  /** Gives the exit code, or throws. */
  run(flags: Flags, context: Context): Promise<number>;
}

const config: FlagSpec = {
  value: 'FILE|NAME',
  describe: 'the configuration: a file, or the name of one that ships with dtrain',
};
const gpus: FlagSpec = { value: 'N', describe: 'the first N GPUs, a worker each' };
const cpus: FlagSpec = { value: 'N', describe: 'N workers on the CPU' };
const json: FlagSpec = { describe: 'JSON on standard output, one object a line' };
const quiet: FlagSpec = { describe: 'only the result' };
const hosts: FlagSpec = { value: 'A:PORT,B:PORT', describe: 'all hosts of the run, in one order' };
const hostRank: FlagSpec = { value: 'I', describe: 'which of them this one is, from 0' };

const stepBenchFlags = {
  config,
  gpus,
  cpus,
  steps: { value: 'N', describe: 'timed steps (20)' },
  warmup: { value: 'N', describe: 'steps before them that are not timed (5)' },
  json,
} as const satisfies Record<string, FlagSpec>;

/** The first one is the default command. */
export const COMMANDS: readonly Command[] = [
  {
    name: 'train',
    words: '[overrides..]',
    usage:
      'dtrain [train] --config FILE|NAME [--gpus N | --cpus N] [KEY=VALUE ...] [--run-dir DIR] [--resume [RUN|CHECKPOINT]] [--max-restarts N] [--hosts A:PORT,B:PORT --host-rank I] [--profile STEPS] [--metrics-port N [--metrics-host ADDRESS]] [--json] [--quiet] [--dry-run]',
    describe: 'trains a model (the default command)',
    flags: {
      config,
      gpus,
      cpus,
      'run-dir': { value: 'DIR', describe: 'where the run is kept (runs/NAME-TIME)' },
      resume: {
        value: '[RUN|CHECKPOINT]',
        isOptional: true,
        describe:
          'goes on from a checkpoint: the one named, else the last one in --run-dir or of the newest run of this configuration',
      },
      'max-restarts': {
        value: 'N',
        describe: 'how often a run that failed goes on from its last checkpoint, without a new one between (3)',
      },
      hosts,
      'host-rank': hostRank,
      profile: { value: 'STEPS', describe: 'writes RUN/profile.json: what each worker does in the first steps' },
      'metrics-port': { value: 'N', describe: 'serves the newest figures there, as Prometheus reads them' },
      'metrics-host': { value: 'ADDRESS', describe: 'where that port is open (127.0.0.1: this machine only)' },
      json,
      quiet,
      'dry-run': { describe: 'prints what would run, and stops' },
    },
    run: async (flags, context) => (await import('./train-command.js')).trainCommand(flags, context),
  },
  {
    name: 'eval',
    words: '<CHECKPOINT> [overrides..]',
    usage: 'dtrain eval CHECKPOINT [--gpus N | --cpus N] [KEY=VALUE ...] [--json]',
    describe: 'counts the accuracy of a checkpoint on the test images, in all and for each class',
    flags: { gpus, cpus, json },
    run: async (flags, context) => (await import('./eval-command.js')).evalCommand(flags, context),
  },
  {
    name: 'bench step',
    words: '[overrides..]',
    usage:
      'dtrain bench step --config FILE|NAME [--gpus N | --cpus N] [KEY=VALUE ...] [--steps N] [--warmup N] [--json]',
    describe: 'times training steps',
    flags: stepBenchFlags,
    run: async (flags, context) => (await import('./bench-command.js')).benchStepCommand(flags, context),
  },
  {
    name: 'bench all-reduce',
    words: '[overrides..]',
    usage:
      'dtrain bench all-reduce [--bytes N] [--ranks N | --gpus N | --cpus N] [--rounds N] [allReduce.KEY=VALUE ...] [--json]',
    describe: 'times the mean of gradients over workers',
    flags: {
      bytes: { value: 'N', describe: 'gradients of a worker, in bytes of float32 (94371840)' },
      ranks: { value: 'N', describe: 'workers (2), with gradients in the memory of the host' },
      gpus: { value: 'N', describe: 'workers with gradients on the first N GPUs' },
      cpus: { value: 'N', describe: 'workers with gradients on N CPU devices' },
      rounds: { value: 'N', describe: 'timed rounds (20)' },
      json,
    },
    run: async (flags, context) => (await import('./bench-command.js')).benchAllReduceCommand(flags, context),
  },
  {
    name: 'bench scaling',
    words: '[overrides..]',
    usage:
      'dtrain bench scaling --config FILE|NAME --gpus LIST|--cpus LIST [KEY=VALUE ...] [--steps N] [--warmup N] [--hosts A:PORT,B:PORT --host-rank I] [--min-efficiency F] [--chart FILE.svg] [--json]',
    describe: 'compares numbers of workers',
    flags: {
      ...stepBenchFlags,
      gpus: { value: 'LIST', describe: 'numbers of GPUs, such as 1,2,4' },
      cpus: { value: 'LIST', describe: 'numbers of workers on the CPU, such as 1,2' },
      hosts,
      'host-rank': hostRank,
      'min-efficiency': { value: 'F', describe: 'exit code 1 when a point has a lower efficiency' },
      chart: { value: 'FILE.svg', describe: 'draws speed, efficiency and the phases of a step there' },
    },
    run: async (flags, context) => (await import('./bench-command.js')).benchScalingCommand(flags, context),
  },
  {
    name: 'bench data',
    words: '[overrides..]',
    usage:
      'dtrain bench data --config FILE|NAME [--gpus N | --cpus N] [KEY=VALUE ...] [--steps N] [--warmup N] [--json]',
    describe: 'times how images reach the steps, from memory and streamed, and how long steps wait for them',
    flags: stepBenchFlags,
    run: async (flags, context) => (await import('./bench-command.js')).benchDataCommand(flags, context),
  },
  {
    name: 'find lr',
    words: '[overrides..]',
    usage:
      'dtrain find lr --config FILE|NAME [--gpus N | --cpus N] [KEY=VALUE ...] [--min RATE] [--max RATE] [--steps N] [--json]',
    describe: 'tries growing learning rates, and names the one up to which the loss falls',
    flags: {
      config,
      gpus,
      cpus,
      min: { value: 'RATE', describe: 'learning rate of the first step (0.0001)' },
      max: { value: 'RATE', describe: 'learning rate of the last step (10)' },
      steps: { value: 'N', describe: 'steps between them (100)' },
      json,
    },
    run: async (flags, context) => (await import('./find-command.js')).findRateCommand(flags, context),
  },
  {
    name: 'find batch',
    words: '[overrides..]',
    usage: 'dtrain find batch --config FILE|NAME [--gpus N | --cpus N] [KEY=VALUE ...] [--max N] [--steps N] [--json]',
    describe: 'tries growing batches, and names the largest that fits into memory and the fastest',
    flags: {
      config,
      gpus,
      cpus,
      max: { value: 'N', describe: 'no larger global batch is tried (65536)' },
      steps: { value: 'N', describe: 'timed steps of each (3)' },
      json,
    },
    run: async (flags, context) => (await import('./find-command.js')).findBatchCommand(flags, context),
  },
  {
    name: 'models',
    words: '[NAME]',
    usage: 'dtrain models [NAME] [--input 3x32x32] [--classes 10] [--stem cifar|imagenet] [--json]',
    describe: 'lists the models, with parameters and multiply-adds',
    flags: {
      input: { value: '3xHxW', describe: 'size of the images (3x32x32)' },
      classes: { value: 'N', describe: 'number of classes (10)' },
      stem: { value: 'cifar|imagenet', describe: 'first layers (imagenet from 64x64 on, else cifar)' },
      json,
    },
    run: async (flags, context) => (await import('./models-command.js')).modelsCommand(flags, context),
  },
  {
    name: 'export',
    words: '<CHECKPOINT>',
    usage: 'dtrain export CHECKPOINT --format safetensors|tfjs|saved-model|onnx --out PATH [--fold]',
    describe: 'writes the weights of a checkpoint for other programs',
    flags: {
      format: { value: 'NAME', describe: 'safetensors (PyTorch), tfjs, saved-model (TensorFlow) or onnx' },
      out: { value: 'PATH', describe: 'the file to write; for tfjs and saved-model, the folder' },
      fold: { describe: 'batch norms become part of the convolutions before them' },
    },
    run: async (flags, context) => (await import('./export-command.js')).exportCommand(flags, context),
  },
  {
    name: 'predict',
    words: '<CHECKPOINT> <IMAGE..>',
    usage: 'dtrain predict CHECKPOINT IMAGE... [--top N] [--json]',
    describe: 'names the most probable classes of image files',
    flags: { top: { value: 'N', describe: 'classes to name for each image (3)' }, json },
    run: async (flags, context) => (await import('./predict-command.js')).predictCommand(flags, context),
  },
  {
    name: 'report',
    words: '<RUN..>',
    usage: 'dtrain report RUN... [--out FILE.html]',
    describe: 'writes one page about runs: curves, confusion matrix, mistakes, configuration',
    flags: { out: { value: 'FILE.html', describe: 'the page (RUN/report.html; of several runs, report.html)' } },
    run: async (flags, context) => (await import('./report-command.js')).reportCommand(flags, context),
  },
  {
    name: 'watch',
    words: '<RUN>',
    usage: 'dtrain watch RUN [--port N]',
    describe: 'serves that page on this machine only, live',
    flags: { port: { value: 'N', describe: 'port of the loopback interface (one that is free)' } },
    run: async (flags, context) => (await import('./report-command.js')).watchCommand(flags, context),
  },
  {
    name: 'doctor',
    words: '',
    usage: 'dtrain doctor [--json]',
    describe: 'checks library, devices, memory and data, tries ten steps, and says what to do',
    flags: { json },
    run: async (flags, context) => (await import('./setup-command.js')).doctorCommand(flags, context),
  },
  {
    name: 'setup',
    words: '',
    usage: 'dtrain setup [--cpu | --gpu] [--bundle DIR [--part-size SIZE] [--with-node] | --from-bundle DIR] [--quiet]',
    describe: 'installs the TensorFlow library that dtrain needs; safe to repeat',
    flags: {
      cpu: { describe: 'the library for the CPU' },
      gpu: { describe: 'the library for GPUs, with CUDA' },
      bundle: { value: 'DIR', describe: 'writes all that a machine without a network needs, as parts' },
      'part-size': { value: 'SIZE', describe: 'no part is larger, such as 60M (1G)' },
      'with-node': { describe: 'puts this Node into the bundle too' },
      'from-bundle': { value: 'DIR', describe: 'installs from the parts of a bundle, without a network' },
      quiet,
    },
    run: async (flags, context) => (await import('./setup-command.js')).setupCommand(flags, context),
  },
  {
    name: 'completion',
    words: '<SHELL> [LINE]',
    usage: 'dtrain completion bash|zsh|fish',
    describe: 'prints what makes a shell complete commands, flags and keys: source <(dtrain completion bash)',
    flags: {},
    run: async (flags, context) => (await import('./completion-command.js')).completionCommand(flags, context),
  },
  {
    name: 'config print',
    words: '[overrides..]',
    usage: 'dtrain config print [--config FILE|NAME] [KEY=VALUE ...]',
    describe: 'prints the resolved configuration',
    flags: { config },
    run: async (flags, context) => (await import('./config-command.js')).configPrintCommand(flags, context),
  },
  {
    name: 'config schema',
    words: '',
    usage: 'dtrain config schema',
    describe: 'prints the JSON Schema of the configuration',
    flags: {},
    run: async (_flags, context) => (await import('./config-command.js')).configSchemaCommand(context),
  },
  {
    name: 'config docs',
    words: '',
    usage: 'dtrain config docs',
    describe: 'prints docs/configuration.md',
    flags: {},
    run: async (_flags, context) => (await import('./config-command.js')).configDocsCommand(context),
  },
];
