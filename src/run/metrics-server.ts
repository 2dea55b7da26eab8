/**
 * `--metrics-port N`: the newest figures of a run over HTTP, as Prometheus reads them (text format, version 0.0.4).
 *
 * Idea: fed by the events that everybody sees; a figure that is not known yet is not there.
 * Must stay true: loopback unless told otherwise, and then a foreign Host is refused; a reader never holds up the run.
 * Source: https://prometheus.io/docs/instrumenting/exposition_formats/
 */
import http from 'node:http';
import { DtrainError, ExitCode } from '../core/errors.js';
import { PHASES, type TrainEvent } from '../core/events.js';

type Labels = Readonly<Record<string, string>>;

interface Metric {
  readonly type: 'gauge' | 'counter';
  readonly help: string;
}

const METRICS = {
  dtrain_run_info: { type: 'gauge', help: 'Always 1; the labels say what runs.' },
  dtrain_step: { type: 'gauge', help: 'Finished steps.' },
  dtrain_planned_steps: { type: 'gauge', help: 'Steps of the whole run.' },
  dtrain_epoch: { type: 'gauge', help: 'Finished passes over the training images.' },
  dtrain_images_total: { type: 'counter', help: 'Training images of all finished steps.' },
  dtrain_loss: { type: 'gauge', help: 'Mean loss in nats.' },
  dtrain_accuracy_ratio: { type: 'gauge', help: 'Fraction of images whose most probable class is right.' },
  dtrain_learning_rate: { type: 'gauge', help: 'Learning rate of the last reported step.' },
  dtrain_images_per_second: { type: 'gauge', help: 'Training images a second.' },
  dtrain_phase_seconds: { type: 'gauge', help: 'Median seconds of a phase of a step, of the slowest rank.' },
  dtrain_checkpoint_step: { type: 'gauge', help: 'Step of the last checkpoint.' },
  dtrain_last_event_timestamp_seconds: { type: 'gauge', help: 'Time of the last event, in seconds since 1970.' },
  dtrain_finished: { type: 'gauge', help: '1 when the run has come to its end.' },
} as const satisfies Readonly<Record<string, Metric>>;

type MetricName = keyof typeof METRICS;

export interface MetricsAddress {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

const LOOPBACK = /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/;
const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export class MetricsServer implements Disposable {
  readonly url: string;
  readonly #server: http.Server;
  readonly #samples = new Map<MetricName, Map<string, number>>();
  readonly #clock: () => number;
  #globalBatch = 0;

  /** Begins to listen. @throws DTRAIN_PORT (exit 4) when that is not possible. */
  static async open({ host, port }: MetricsAddress, clock: () => number = () => Date.now() / 1000) {
    const server = http.createServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause: NodeJS.ErrnoException) => reject(portError(host, port, cause)));
      server.listen(port, host, resolve);
    });
    server.unref();
    return new MetricsServer(server, host, clock);
  }

  private constructor(server: http.Server, host: string, clock: () => number) {
    this.#server = server;
    this.#clock = clock;
    const { port, family } = server.address() as { port: number; family: string };
    this.url = `http://${family === 'IPv6' ? `[${host}]` : host}:${port}/metrics`;
    const onlyLocal = LOOPBACK.test(family === 'IPv6' ? `[${host}]` : host);
    server.on('request', (request, response) => this.#answer(onlyLocal, request, response));
  }

  event(event: TrainEvent): void {
    this.#set('dtrain_last_event_timestamp_seconds', this.#clock());
    if (event.event === 'run') {
      this.#globalBatch = event.globalBatch;
      const { model } = event.config as { model: { name: string } };
      const { version, runDir, workers } = event;
      this.#set('dtrain_run_info', 1, { model: model.name, run: runDir, version, workers: String(workers) });
      this.#set('dtrain_finished', 0);
    }
    if (event.event === 'step') {
      this.#step(event.step);
      this.#set('dtrain_epoch', event.epoch);
      this.#set('dtrain_loss', event.loss, { split: 'train' });
      this.#set('dtrain_accuracy_ratio', event.trainAccuracy, { split: 'train' });
      this.#set('dtrain_learning_rate', event.learningRate);
      this.#set('dtrain_images_per_second', event.imagesPerSecond);
      for (const phase of PHASES) this.#set('dtrain_phase_seconds', event.seconds[phase], { phase });
    }
    if (event.event === 'evaluation') {
      this.#set('dtrain_loss', event.testLoss, { split: 'test' });
      this.#set('dtrain_accuracy_ratio', event.testAccuracy, { split: 'test' });
    }
    if (event.event === 'checkpoint') this.#set('dtrain_checkpoint_step', event.step);
    if (event.event === 'end') this.#set('dtrain_finished', 1);
  }

  /** Between two events. */
  progress({ step, totalSteps }: { readonly step: number; readonly totalSteps: number }): void {
    this.#step(step);
    this.#set('dtrain_planned_steps', totalSteps);
  }

  /** The page. */
  text(): string {
    const lines: string[] = [];
    for (const [name, samples] of this.#samples) {
      const { type, help } = METRICS[name];
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      for (const [labels, value] of samples) lines.push(`${name}${labels} ${numberText(value)}`);
    }
    return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
  }

  [Symbol.dispose](): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #step(step: number): void {
    this.#set('dtrain_step', step);
    this.#set('dtrain_images_total', step * this.#globalBatch);
  }

  #set(name: MetricName, value: number, labels: Labels = {}): void {
    const samples = this.#samples.get(name) ?? new Map<string, number>();
    this.#samples.set(name, samples.set(labelsText(labels), value));
  }

  #answer(onlyLocal: boolean, { url, method, headers }: http.IncomingMessage, response: http.ServerResponse): void {
    if (onlyLocal && !LOOPBACK.test(headers.host ?? '')) response.writeHead(403).end();
    else if (method !== 'GET' || (url ?? '').split('?')[0] !== '/metrics') response.writeHead(404).end();
    else response.writeHead(200, { 'content-type': CONTENT_TYPE }).end(this.text());
  }
}

function labelsText(labels: Labels): string {
  const escaped = (text: string) => text.replace(/[\\"\n]/g, (found) => (found === '\n' ? '\\n' : `\\${found}`));
  const pairs = Object.entries(labels).map(([name, text]) => `${name}="${escaped(text)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function numberText(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}

function portError(host: string, port: number, cause: NodeJS.ErrnoException): DtrainError {
  const text = `--metrics-port: ${host}:${port}: expected an address to listen on, got ${cause.code}. Choose another port or --metrics-host.`;
  return new DtrainError('DTRAIN_PORT', ExitCode.environment, text, { cause });
}
