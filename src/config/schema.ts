/**
 * The configuration: every key with its type, bounds, default, unit and meaning, said once.
 *
 * Idea: a key is one line here. The checks, the defaults, the type RunConfig, the JSON Schema and docs/configuration.md come from that line.
 * Must stay true: keys are public (contract, "Configuration"), two levels of sections at most; what this version does not do is not in a key's
 * type, so it is refused and never ignored; every key has a default that its own type accepts.
 */
import { z } from 'zod';

/** `T` with everything in it readonly, at any depth. */
export type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

/** One key, for people and for messages. */
export interface KeyFacts {
  /** Dotted: `data.augment.crop`. */
  readonly path: string;
  readonly default: unknown;
  /** What fits, to follow the word "expected" in a message. */
  readonly expected: string;
  /** What the number counts; undefined for what is no number, or a pure one. */
  readonly unit: string | undefined;
  readonly description: string;
  /** Any text fits, so a word needs no quotes. */
  readonly isText: boolean;
  /** The words that fit; empty where other things do. */
  readonly choices: readonly string[];
}

export interface SectionFacts {
  /** `data`, or dotted: `data.augment`. */
  readonly path: string;
  readonly description: string;
}

/** A type together with the words for it. */
interface Kind<T extends z.ZodType> {
  readonly type: T;
  readonly expected: string;
  readonly isText?: boolean;
  readonly choices?: readonly string[];
}

interface KeyOptions {
  readonly unit?: string;
}

const keyFacts = new WeakMap<z.ZodType, Omit<KeyFacts, 'path'>>();

function key<T extends z.ZodType>(
  kind: Kind<T>,
  value: z.util.NoUndefined<z.output<T>>,
  description: string,
  options: KeyOptions = {},
): z.ZodDefault<T> {
  const type = z._default(kind.type, value).describe(description);
  const { expected, isText = false, choices = [] } = kind;
  const { unit } = options;
  keyFacts.set(type, { default: value, expected, unit, description, isText, choices });
  return type;
}

function section<T extends Readonly<Record<string, z.ZodType>>>(description: string, keys: T) {
  return z.strictObject(keys).describe(description);
}

/** A section inside the configuration or another section: left out, it is made of defaults. */
function part<T extends z.ZodType<unknown, object>>(type: T) {
  return type.prefault({} as z.input<T>);
}

const flag: Kind<z.ZodBoolean> = { type: z.boolean(), expected: 'true or false' };

function flagOr<const W extends string>(word: W): Kind<z.ZodUnion<[z.ZodBoolean, z.ZodLiteral<W>]>> {
  return { type: z.union([z.boolean(), z.literal(word)]), expected: `true, false or ${word}` };
}

function integer(min: number, max: number): Kind<z.ZodInt> {
  return { type: z.int().min(min).max(max), expected: `a whole number from ${min} to ${max}` };
}

function number(min: number, max: number): Kind<z.ZodNumber> {
  return { type: z.number().min(min).max(max), expected: `a number from ${min} to ${max}` };
}

/** Above `min`, which itself does not fit. */
function numberAbove(min: number, max: number): Kind<z.ZodNumber> {
  return { type: z.number().gt(min).max(max), expected: `a number above ${min}, at most ${max}` };
}

/** `max` itself does not fit. */
function numberBelow(min: number, max: number): Kind<z.ZodNumber> {
  return { type: z.number().min(min).lt(max), expected: `a number from ${min} to below ${max}` };
}

function choice<const V extends readonly [string, ...string[]]>(...values: V) {
  return { type: z.enum(values), expected: listText(values), choices: values };
}

function orNull<T extends z.ZodType>(kind: Kind<T>): Kind<z.ZodNullable<T>> {
  return { ...kind, type: kind.type.nullable(), expected: `${kind.expected}, or null` };
}

/** A path: no control characters and no halves of characters, which no file system call takes. */
const text: Kind<z.ZodString> = {
  type: z
    .string()
    .min(1)
    .max(4096)
    .regex(/^[^\p{Cc}\p{Cs}]*$/u),
  expected: 'a path',
  isText: true,
};

const increasingEpochs: Kind<z.ZodArray<z.ZodNumber>> = {
  type: z
    .array(z.number().gt(0).max(100_000))
    .max(100)
    .refine((epochs) => epochs.every((epoch, i) => i === 0 || epoch > epochs[i - 1]!)),
  expected: 'increasing epochs above 0, such as [82, 123]',
};

const hostAddresses: Kind<z.ZodArray<z.ZodString>> = {
  type: z
    .array(z.string().regex(/^\S+:[0-9]{1,5}$/))
    .min(1)
    .max(1024),
  expected: 'addresses such as [a:8888, b:8888]',
};

/** `A, B or C` */
export function listText(words: readonly string[]): string {
  return words.length < 2 ? (words[0] ?? '') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}

export const MODEL_NAMES = [
  'resnet20',
  'resnet32',
  'resnet44',
  'resnet56',
  'resnet110',
  'resnet1202',
  'resnet18',
  'resnet34',
  'resnet50',
  'resnet101',
  'resnet152',
  'plain20',
  'plain32',
  'plain44',
  'plain56',
  'plain18',
  'plain34',
  'vgg16',
  'vgg19',
  'resnet20v2',
  'resnet56v2',
  'resnet110v2',
  'resnet164v2',
  'resnet1001v2',
  'wrn-16-8',
  'wrn-28-10',
  'speednet',
] as const;
export type ModelName = (typeof MODEL_NAMES)[number];

/** Keys in the order of the contract, which is the order of docs/configuration.md and of a printed configuration. */
export const runConfigSchema = section('A run of dtrain.', {
  model: part(
    section('The network.', {
      name: key(
        choice(...MODEL_NAMES),
        'resnet20',
        'The network: of depth 6n+2 for 32x32 images (resnet20 to resnet1202), of the ImageNet family (resnet18 to resnet152), the same without shortcuts (plain), VGG, ResNets with pre-activation (v2), wide ResNets (wrn-DEPTH-WIDTH), or speednet, a small one that trains fast.',
      ),
      shortcut: key(
        choice('A', 'B', 'C', 'none'),
        'A',
        'Shortcuts of a ResNet: A, the identity, with zeros for new channels where the width grows, no parameters; B, a 1x1 convolution where it grows; C, a 1x1 convolution in every block; none, a plain network. The ImageNet family and bottlenecks take A as B. Plain networks have none and wide ones B, VGG and speednet no such thing, whatever this says.',
      ),
      stem: key(
        choice('cifar', 'imagenet'),
        'cifar',
        'Layers for large or small images. The first ones of the ImageNet family: cifar, a 3x3 convolution of stride 1; imagenet, a 7x7 convolution of stride 2 and a max pooling of stride 2. The last ones of VGG: cifar, one dense layer; imagenet, three, 4096 wide, with dropout. Other networks are for small images whatever this says.',
      ),
      initFrom: key(
        orNull(text),
        null,
        "A safetensors file of first weights, with torchvision's names and layouts. Null: He initialisation from train.seed.",
      ),
      module: key(
        orNull(text),
        null,
        'A network in a file of your own, in place of model.name: an ES module that exports a function `model`, or one by default, which returns a tf.LayersModel or a function of tfjs tensors (docs/models.md). Null: the one of model.name.',
      ),
    }),
  ),
  data: part(
    section('The images.', {
      name: key(
        choice('cifar10', 'cifar100', 'image-folder', 'synthetic'),
        'cifar10',
        'The data set: cifar10; cifar100; image-folder, a tree train/CLASS/*.jpg|png and test/CLASS/*, a CSV file with the columns path, label and split, or a folder of Parquet files; synthetic, ten classes of generated 32x32 images.',
      ),
      path: key(
        orNull(text),
        null,
        'Where the data set lies: a folder, or an archive of it. Null: $DTRAIN_DATA, then ./data, then the cache folder, then (cifar10) a download of the official archive.',
      ),
      size: key(
        orNull(integer(8, 4096)),
        null,
        'Side of the square that images of an image folder become: scaled until they cover it, the centre cut out. Null: all have one size, and keep it.',
        { unit: 'pixels' },
      ),
      resize: key(
        orNull(integer(8, 4096)),
        null,
        'Shorter side of the scaled image before the centre is cut out, at least data.size. Null: data.size.',
        { unit: 'pixels' },
      ),
      memoryBytes: key(
        orNull(integer(0, 1_000_000_000_000_000)),
        null,
        'Decoded images that may be in memory. A set of JPEG or PNG files that takes more is streamed: decoded anew in every epoch, ahead of the steps, by threads of their own. 0: always streamed. Null: half of the free memory, and 4 GiB for each of training and test images.',
        { unit: 'bytes' },
      ),
      shuffle: key(flag, true, 'A new order in every epoch, drawn from train.seed. False: the order of the files.'),
      augment: part(
        section('Random changes to the training images, drawn from train.seed, the epoch and the image.', {
          crop: key(
            integer(0, 256),
            4,
            'Zeros added on each side, after which a window of the old size is cut at random. 0: no crop.',
            { unit: 'pixels' },
          ),
          flip: key(
            flagOr('alternating'),
            true,
            'Left and right exchanged in half of the images; alternating, in the first epoch, and from then on each image in every second epoch.',
          ),
          cutout: key(integer(0, 256), 0, 'Side of a square set to the mean colour at a random place. 0: none.', {
            unit: 'pixels',
          }),
          brightness: key(
            numberBelow(0, 1),
            0,
            'Pixels times a factor between 1 - brightness and 1 + brightness, before the crop is blanked. 0: none.',
          ),
          contrast: key(
            numberBelow(0, 1),
            0,
            'The distance of pixels from the mean colour of the data set times a factor between 1 - contrast and 1 + contrast. 0: none.',
          ),
          mixup: key(
            number(0, 1),
            0,
            'Each image is mixed with another one of the data set, and its class with the class of that; its share is drawn from Beta(mixup, mixup). 0: no mixtures.',
          ),
        }),
      ),
    }),
  ),
  train: part(
    section('The run.', {
      epochs: key(integer(1, 100_000), 164, 'Passes over the training images.', { unit: 'epochs' }),
      maxSteps: key(
        orNull(integer(1, 1_000_000_000)),
        null,
        'The run ends here if train.epochs have not ended it. Null: no such limit.',
        { unit: 'steps' },
      ),
      globalBatch: key(
        integer(1, 1_048_576),
        128,
        'Images of a step over all workers; a multiple of train.logicalShards.',
        { unit: 'images' },
      ),
      logicalShards: key(
        orNull(integer(1, 1024)),
        null,
        'Parts of the global batch whose batch-norm statistics and gradients are taken as a unit; a multiple of the workers. With the same number, any number of workers computes the same bits. Null: the number of workers.',
        { unit: 'shards' },
      ),
      threadsPerWorker: key(
        orNull(integer(1, 1024)),
        null,
        'CPU threads of a worker. Null: the cores divided by train.logicalShards, at least 1.',
        { unit: 'threads' },
      ),
      precision: key(
        choice('float32', 'bfloat16'),
        'float32',
        'Of convolutions and matrix products. Weights, batch-norm statistics, loss and updates are float32 always.',
      ),
      compile: key(
        choice('auto', 'xla', 'graph'),
        'auto',
        'How a recorded step runs: xla, compiled; graph, operation by operation; auto, xla on GPUs and graph on the CPU.',
      ),
      seed: key(integer(0, 4_294_967_295), 0, 'Of all random numbers: first weights, order, augmentation.'),
      labelSmoothing: key(numberBelow(0, 1), 0, 'Part of the target that is spread evenly over all classes.'),
      ema: key(
        numberBelow(0, 1),
        0,
        'Decay per step of running averages of the weights and of the batch-norm statistics, which evaluation then takes; a checkpoint holds both. 0: none.',
      ),
      accumulate: key(
        integer(1, 1024),
        1,
        'Parts in which a worker computes its share of a step, one after the other, so that fewer images are in memory at once. Multiplies the logical shards.',
        { unit: 'parts' },
      ),
    }),
  ),
  optimizer: part(
    section('How gradients change the weights.', {
      name: key(
        choice('sgd', 'adamw', 'lars', 'muon'),
        'sgd',
        'The optimizer. sgd: v = momentum v + g + weightDecay w, then w = w - learningRate v. adamw: with decoupled decay, momentum is its first beta. lars: sgd with the gradient of each matrix scaled to the length of its weights. muon: orthogonalised momentum with decoupled decay for matrices, sgd for the first and last of them, norms and biases.',
      ),
      momentum: key(numberBelow(0, 1), 0.9, 'Part of the last update that is kept.'),
      nesterov: key(
        flag,
        false,
        "Nesterov's form of the momentum: w = w - learningRate (g + weightDecay w + momentum v).",
      ),
      weightDecay: key(number(0, 1), 0.0001, 'Of all weights but those of optimizer.exempt.'),
      decoupled: key(
        flag,
        false,
        'Weight decay apart from the gradient: w = w - learningRate weightDecay w, for sgd and lars. adamw and muon do so always.',
      ),
      exempt: key(
        choice('none', 'norms-and-biases'),
        'none',
        'What has no weight decay: none, everything has; norms-and-biases, parameters of one axis have not.',
      ),
      clipNorm: key(
        number(0, 1_000_000),
        0,
        'The longest gradient, over all parameters; a longer one is shortened to that. 0: no limit.',
      ),
      beta2: key(numberBelow(0, 1), 0.999, 'Part of the mean squared gradient of adamw that is kept.'),
      epsilon: key(numberAbove(0, 1), 1e-8, 'Added to the divisors of adamw and lars.'),
      trust: key(numberAbove(0, 100), 0.001, 'Length of a step of lars, as a part of the length of the weights.'),
    }),
  ),
  schedule: part(
    section('The learning rate over the run.', {
      name: key(
        choice('constant', 'multi-step', 'cosine', 'one-cycle', 'polynomial'),
        'multi-step',
        'After the warm-up: constant; multi-step, multiplied by schedule.factor at each of schedule.milestones; cosine, along half a cosine to 0 at the end of the run; one-cycle, from a 25th up to the highest along half a cosine, and down to almost 0 at the end of the run along another; polynomial, to 0 at the end of the run as the schedule.power-th power of what is left of it. The end of the run is that of train.epochs; train.maxSteps cuts a run short without changing its steps.',
      ),
      learningRate: key(numberAbove(0, 1000), 0.1, 'The highest learning rate.'),
      warmupEpochs: key(
        number(0, 100_000),
        0,
        'Length of the rise to the highest rate: in a straight line from 0, or with one-cycle along its curve, where 0 means three tenths of the run.',
        { unit: 'epochs' },
      ),
      milestones: key(
        increasingEpochs,
        [82, 123],
        'When multi-step lowers the learning rate, counted from the start of the run.',
        { unit: 'epochs' },
      ),
      factor: key(numberAbove(0, 1), 0.1, 'What multi-step multiplies the learning rate by.'),
      power: key(numberAbove(0, 10), 1, 'Exponent of polynomial; 1 is a straight line.'),
    }),
  ),
  evaluation: part(
    section('Accuracy on the test images, each counted once.', {
      everyEpochs: key(integer(0, 100_000), 1, 'Evaluation at each so many epochs, and at the last. 0: never.', {
        unit: 'epochs',
      }),
      flip: key(flag, false, 'Each image is judged by the mean of its logits and those of its mirror image.'),
    }),
  ),
  checkpoint: part(
    section('What is kept of a run. Its last step is saved always.', {
      everyEpochs: key(integer(0, 100_000), 1, 'A checkpoint at each so many epochs. 0: none for epochs.', {
        unit: 'epochs',
      }),
      everySteps: key(
        orNull(integer(1, 1_000_000_000)),
        null,
        'A checkpoint at each so many steps as well. Null: none for steps.',
        { unit: 'steps' },
      ),
      keep: key(integer(1, 1_000_000), 3, 'The newest checkpoints that stay; the best one stays too.', {
        unit: 'checkpoints',
      }),
    }),
  ),
  allReduce: part(
    section('How workers add their gradients.', {
      kind: key(
        choice('shared-memory', 'tensorflow'),
        'shared-memory',
        "The means: shared-memory, among the threads of one host, in the host's memory; tensorflow, from device to device by TensorFlow's collectives (NCCL between GPUs, else its ring); on several hosts all ranks of all hosts are then one group.",
      ),
      dtype: key(
        choice('float32', 'bfloat16'),
        'float32',
        'Of the gradients on their way to the sum, which is float32 always. bfloat16: half the bytes, each shard rounded once; with kind shared-memory.',
      ),
      timeoutSeconds: key(
        numberAbove(0, 86_400),
        60,
        'How long the others wait for a worker that does not come, before the run ends with exit code 11.',
        { unit: 'seconds' },
      ),
      exact: key(
        flag,
        true,
        'Sums in one fixed order, whatever the number of workers and hosts. False permits another order between hosts, and with kind tensorflow between more than two workers; in the shared memory of one host the order is fixed either way.',
      ),
    }),
  ),
  gpu: part(
    section('How GPUs are used. Runs on the CPU ignore it.', {
      memoryGrowth: key(
        flag,
        true,
        'Memory of a GPU is taken as it is needed. False: all of gpu.memoryFraction at the start, which is never in pieces.',
      ),
      memoryFraction: key(
        orNull(numberAbove(0, 1)),
        null,
        'Part of the memory of each GPU that may be taken. Null: what TensorFlow takes, all but a small rest.',
      ),
      workersPerCard: key(
        integer(1, 16),
        1,
        'Workers that share one card, each with an equal part of its memory, taken at the start: to try several workers on a machine with one GPU. It is never faster.',
        { unit: 'workers' },
      ),
    }),
  ),
  cluster: part(
    section('Several hosts.', {
      hosts: key(
        orNull(hostAddresses),
        null,
        'Every host as host:port, in the same order on all of them. Null: --hosts, or what a launcher says (docs/cluster.md); else one host.',
      ),
      hostRank: key(
        orNull(integer(0, 1023)),
        null,
        'The place of this host among them, from 0. Null: --host-rank, or what a launcher says.',
      ),
      trustedNetwork: key(
        flag,
        false,
        "True: only the hosts of the run reach each other's ports. TensorFlow's port has no authentication, so several hosts are refused without this.",
      ),
      waitSeconds: key(
        integer(1, 86_400),
        600,
        'At the start this host waits so long for the others, which may still copy their image or read their data; then it ends with exit code 12.',
        { unit: 'seconds' },
      ),
    }),
  ),
});

/** A complete, checked configuration. loadConfig gives one that is frozen at every depth. */
export type RunConfig = DeepReadonly<z.output<typeof runConfigSchema>>;

/** Every key and every section, in the order of the schema. */
export const { keys: CONFIG_KEYS, sections: CONFIG_SECTIONS } = collectFacts(runConfigSchema, '');

function collectFacts(type: z.ZodType, path: string): { keys: readonly KeyFacts[]; sections: readonly SectionFacts[] } {
  const facts = keyFacts.get(type);
  if (facts !== undefined) return { keys: [{ path, ...facts }], sections: [] };
  const object = type instanceof z.ZodPrefault ? type.unwrap() : type;
  if (!(object instanceof z.ZodObject)) throw new Error(`internal: schema of ${path}: expected a key or a section`);
  const parts = Object.entries(object.shape).map(([name, inner]) =>
    collectFacts(inner, path === '' ? name : `${path}.${name}`),
  );
  const own = path === '' ? [] : [{ path, description: object.description ?? '' }];
  return {
    keys: parts.flatMap((inner) => inner.keys),
    sections: [...own, ...parts.flatMap((inner) => inner.sections)],
  };
}

/** The JSON Schema (draft 2020-12) of a configuration file. */
export function jsonSchema(): Record<string, unknown> {
  const { $schema, ...rest } = z.toJSONSchema(runConfigSchema, { io: 'input' });
  return { $schema, title: 'Configuration of dtrain', ...rest };
}
