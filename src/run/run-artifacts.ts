/**
 * What a run leaves in its folder for people beside metrics.jsonl: TensorBoard's events, environment.json, evaluation.json, report.html.
 *
 * Idea: fed by the run's events and evaluations, it never changes what the run does. Owns the open event file until disposed.
 * Must stay true: nothing here is done once a step; a disk that takes nothing more costs these files, not the run.
 */
import os from 'node:os';
import path from 'node:path';
import { lastResult } from '../collective/gradient-arena.js';
import { printConfig } from '../config/print-config.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { TrainEvent } from '../core/events.js';
import { writeFileAtomic } from '../core/files.js';
import { heatMap } from '../core/heat-map.js';
import { encodePng } from '../core/png.js';
import { sizeOf } from '../core/shape.js';
import { drawAugmentation, drawMixture, makeDraws } from '../data/augmentation.js';
import { augmentedPixels, mixedPixels } from '../data/augmented-pixels.js';
import { readImages } from '../data/read-images.js';
import { sampleIds } from '../data/sampler.js';
import { readNetwork } from '../export/read-network.js';
import { graphOutlineProto, tensorflowNodes } from '../export/tensorflow-graph.js';
import { startEngine } from '../graph/engine.js';
import { readRun } from '../report/read-run.js';
import { reportPage } from '../report/report-page.js';
import type { Assembly } from './assemble.js';
import type { EvaluationResult } from './evaluation.js';
import { EventFile, histogram, image, scalar, text } from './event-file.js';
import { packageVersion } from './version.js';

const AUGMENTED_IMAGES = 8;
const CONFUSION_CELL_PIXELS = 16;
/** Of one histogram; a run that is never evaluated must not keep them all. */
const MAX_NORM_SAMPLES = 1000;
/** A matrix of more classes is too large a picture. */
const CONFUSION_CLASSES = 100;

export class RunArtifacts {
  readonly #folder: string;
  readonly #assembly: Assembly;
  readonly #events: EventFile;
  readonly #warn: (line: string) => void;
  /** Of each step event since the last evaluation: the norm of each parameter's gradient. */
  #gradientNorms: number[][] = [];
  #hasFailed = false;

  /**
   * `warn` takes a line for people, at most one. @throws DTRAIN_STORAGE (exit 7): before the first step the disk must be right; data errors
   * for a streamed image.
   */
  static async open(folder: string, assembly: Assembly, warn: (line: string) => void): Promise<RunArtifacts> {
    return new RunArtifacts(folder, assembly, warn, await augmentedImages(assembly));
  }

  private constructor(folder: string, assembly: Assembly, warn: (line: string) => void, images: readonly Buffer[]) {
    this.#folder = folder;
    this.#assembly = assembly;
    this.#warn = warn;
    const seconds = Math.floor(Date.now() / 1000);
    this.#events = new EventFile(path.join(folder, `events.out.tfevents.${seconds}.${os.hostname()}.${process.pid}`));
    writeFileAtomic(path.join(folder, 'environment.json'), `${JSON.stringify(environmentOf(assembly), null, 2)}\n`);
    const configuration = `\`\`\`yaml\n${printConfig(assembly.config)}\`\`\``;
    this.#events.values(0, [text('configuration', configuration), ...images]);
    const graph = graphOutline(assembly);
    if (graph) this.#events.graph(graph);
  }

  /** Called after the event is in metrics.jsonl, from which the page of the end is made. */
  event(event: TrainEvent): void {
    this.#attempt(() => this.#event(event));
  }

  #event(event: TrainEvent): void {
    if (event.event === 'step') {
      this.#gradientNorms.push(this.#normsOfRow());
      if (this.#gradientNorms.length > MAX_NORM_SAMPLES) this.#gradientNorms.shift();
      const { step, loss, trainAccuracy, learningRate, imagesPerSecond, epoch, seconds } = event;
      const phases = Object.entries(seconds).map(([phase, value]) => scalar(`seconds/${phase}`, value));
      this.#events.values(step, [
        scalar('loss/train', loss),
        scalar('accuracy/train', trainAccuracy),
        scalar('learningRate', learningRate),
        scalar('imagesPerSecond', imagesPerSecond),
        scalar('epoch', epoch),
        ...phases,
      ]);
    }
    if (event.event === 'evaluation') {
      const { step, testLoss, testAccuracy } = event;
      this.#events.values(step, [scalar('loss/test', testLoss), scalar('accuracy/test', testAccuracy)]);
    }
    if (event.event === 'end') {
      const page = reportPage({ runs: [readRun(this.#folder)], scaling: [], benches: [] });
      writeFileAtomic(path.join(this.#folder, 'report.html'), page);
    }
  }

  /** Called with the whole of an evaluation, of which the event tells a part. */
  async evaluation(step: number, epoch: number, result: EvaluationResult): Promise<void> {
    const { test } = this.#assembly.data;
    const wrong = result.mostWrong.map(({ image }) => image);
    const pictures = (await readImages(test, wrong)).map((pixels) => encodePng(pixels, test.height, test.width));
    this.#attempt(() => this.#evaluation(step, epoch, result, pictures));
  }

  #evaluation(step: number, epoch: number, result: EvaluationResult, pictures: readonly Buffer[]): void {
    const { classes } = this.#assembly.data;
    const { parameters } = this.#assembly.model;
    const samples = this.#gradientNorms.splice(0);
    const mostWrong = result.mostWrong.map((answer, i) => ({ ...answer, png: pictures[i]!.toString('base64') }));
    const file = path.join(this.#folder, 'evaluation.json');
    writeFileAtomic(file, `${JSON.stringify({ step, epoch, classes, ...result, mostWrong })}\n`);
    const values = [scalar('accuracy/top5', result.top5Accuracy), scalar('calibrationError', result.calibration.error)];
    const last = samples.at(-1); // a run that goes on with an evaluation has made no step yet
    if (last) values.push(histogram('gradientNorms', last));
    for (const [i, norm] of (last ?? []).entries()) {
      const { name } = parameters[i]!;
      values.push(scalar(`gradientNorm/${name}`, norm));
      values.push(
        histogram(
          `gradientNorms/${name}`,
          samples.map((norms) => norms[i]!),
        ),
      );
    }
    if (classes.length <= CONFUSION_CLASSES) {
      const { pixels, height, width } = heatMap(result.confusion, CONFUSION_CELL_PIXELS);
      values.push(image('confusion', encodePng(pixels, height, width), height, width));
    }
    this.#events.values(step, values);
  }

  #attempt(write: () => void): void {
    if (this.#hasFailed) return;
    try {
      write();
    } catch (error) {
      if (!isOfDisk(error)) throw error;
      this.#hasFailed = true;
      this.#warn(`${error.message} Training goes on without TensorBoard events and pages.`);
    }
  }

  [Symbol.dispose](): void {
    this.#events[Symbol.dispose]();
  }

  /** Of each parameter's gradient, in the last mean row. */
  #normsOfRow(): number[] {
    const { arena, recorded } = this.#assembly;
    const row = lastResult(arena);
    let at = 0;
    return recorded.program.layout.parameterShapes.map((shape) => {
      const end = at + sizeOf(shape);
      let squares = 0;
      for (; at < end; at++) squares += row[at]! ** 2;
      return Math.sqrt(squares);
    });
  }
}

/** The first images of the first epoch as the network sees them. */
async function augmentedImages({ config, data }: Assembly): Promise<Buffer[]> {
  const { height, width, count } = data.train;
  const { seed } = config.train;
  const n = Math.min(AUGMENTED_IMAGES, count);
  const { ids, epochs } = sampleIds({ seed, count, shuffle: config.data.shuffle }, 0, n);
  const { augment } = config.data;
  const options = { ...augment, seed, count, height, width };
  const pixelsOf = async (images: Int32Array): Promise<Uint8Array[]> => {
    const draws = makeDraws(n);
    drawAugmentation(options, images, epochs, draws);
    return (await readImages(data.train, images)).map((original, i) => {
      const [cropY, cropX] = [draws.cropYX[2 * i]!, draws.cropYX[2 * i + 1]!];
      const [cutoutY, cutoutX] = [draws.cutoutYX[2 * i]!, draws.cutoutYX[2 * i + 1]!];
      const [brightness, contrast] = [draws.colour[2 * i]!, draws.colour[2 * i + 1]!];
      const drawn = { cropY, cropX, flip: draws.flip[i] === 1, cutoutY, cutoutX, brightness, contrast };
      return augmentedPixels(original, [height, width], drawn, augment, data.normalization.mean);
    });
  };
  const own = await pixelsOf(ids);
  const { partners, shares } = augment.mixup > 0 ? drawMixture(options, ids, epochs) : { partners: ids, shares: [] };
  const others = augment.mixup > 0 ? await pixelsOf(partners) : [];
  return own.map((pixels, i) => {
    const shown = others[i] ? mixedPixels(pixels, others[i], shares[i]!) : pixels;
    return image(`augmented/${i}`, encodePng(shown, height, width), height, width);
  });
}

/** Ours, or one of the file system itself. */
function isOfDisk(error: unknown): error is Error {
  if (error instanceof DtrainError) return error.exitCode === ExitCode.storage;
  return error instanceof Error && 'syscall' in error;
}

/** Of the network in evaluation; none for a model of the user's own with operations that exports do not know. */
function graphOutline({ devices, model, data }: Assembly): Buffer | undefined {
  const none = new Float32Array(0);
  const weights = {
    parameters: model.parameters.map(() => none),
    means: model.statistics.map(() => none),
    variances: model.statistics.map(() => none),
  };
  const { height, width } = data.test;
  const { normalization, classes } = data;
  const engine = startEngine(devices.runtime, devices.names[0]!);
  try {
    const network = readNetwork(engine, { model, weights, imageSize: [height, width], normalization, classes });
    return graphOutlineProto(tensorflowNodes(network));
  } catch (error) {
    if (error instanceof DtrainError && error.code === 'DTRAIN_EXPORT_UNSUPPORTED') return undefined;
    throw error;
  }
}

function environmentOf({ devices, data, batch, model }: Assembly): object {
  return {
    dtrain: packageVersion(),
    node: process.version,
    tensorflow: `${devices.runtime.c.TF_Version()} (${devices.library.variant})`,
    system: `${os.type()} ${os.release()}`,
    processor: os.cpus()[0]?.model ?? 'unknown',
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    devices: devices.names,
    threadsPerWorker: batch.threadsPerWorker,
    model: { name: model.name, parameters: model.numParameters, multiplyAdds: model.multiplyAdds },
    data: {
      source: data.source,
      trainImages: data.train.count,
      testImages: data.test.count,
      size: [data.test.height, data.test.width],
      fingerprint: data.fingerprint,
    },
  };
}
