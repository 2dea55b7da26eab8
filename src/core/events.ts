/**
 * The events of a run: one JSON object a line under `--json` and in metrics.jsonl. Public (contract, "Events"): names and keys stay.
 * Steps and epochs count finished ones. Accuracies are fractions in [0, 1]; losses are means over images, in nats.
 */

/** The five phases of a step. */
export const PHASES = ['feed', 'compute', 'reduce', 'update', 'report'] as const;
export type Phase = (typeof PHASES)[number];
export type PhaseSeconds = Readonly<Record<Phase, number>>;

export interface Normalization {
  /** Per channel (red, green, blue), of pixels scaled to [0, 1]. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

export interface RunStartEvent {
  readonly event: 'run';
  readonly runDir: string;
  readonly version: string;
  readonly devices: readonly string[];
  readonly workers: number;
  readonly globalBatch: number;
  readonly parameters: number;
  readonly trainImages: number;
  readonly testImages: number;
  /** Steps of the whole run. */
  readonly totalSteps: number;
  readonly normalization: Normalization;
  readonly config: unknown;
}

export interface StepEvent {
  readonly event: 'step';
  readonly step: number;
  readonly epoch: number;
  /** Means over the steps since the last such event. */
  readonly loss: number;
  readonly trainAccuracy: number;
  /** Of the last of these steps. */
  readonly learningRate: number;
  readonly imagesPerSecond: number;
  /** Medians over the steps since the last such event, of the slowest rank. */
  readonly seconds: PhaseSeconds;
  /** Share of the time in which the slowest rank waited for images (within `feed`); only where they are streamed. */
  readonly dataWait?: number;
}

export interface EvaluationEvent {
  readonly event: 'evaluation';
  readonly step: number;
  readonly epoch: number;
  readonly testLoss: number;
  readonly testAccuracy: number;
  readonly images: number;
}

export interface CheckpointEvent {
  readonly event: 'checkpoint';
  readonly step: number;
  readonly path: string;
}

export interface EndEvent {
  readonly event: 'end';
  readonly steps: number;
  readonly epochs: number;
  readonly finalTestAccuracy: number | null;
  readonly bestTestAccuracy: number | null;
  readonly imagesPerSecond: number;
  readonly wallSeconds: number;
}

export interface ErrorEvent {
  readonly event: 'error';
  readonly code: string;
  readonly exitCode: number;
  readonly message: string;
  readonly rank: number | null;
  readonly step: number | null;
}

export type TrainEvent = RunStartEvent | StepEvent | EvaluationEvent | CheckpointEvent | EndEvent | ErrorEvent;
