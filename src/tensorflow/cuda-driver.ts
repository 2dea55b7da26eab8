/**
 * What NVIDIA's driver says of itself and of the cards, and what that means for TensorFlow, which only says that it found no GPU.
 * The driver is asked by its own library, libcuda.so.1, without CUDA's. Loads nothing where there is none.
 */
import { type CudaDriver, openCudaDriver } from './c-api.js';

/** A card that the process may use. */
export interface Card {
  readonly name: string;
  /** Compute capability: 8.6 is [8, 6]. */
  readonly capability: readonly [number, number];
}

/** What the driver answered. Plain data. */
export type DriverReport =
  /** Its library does not load. */
  | { readonly missing: string }
  | {
      /** The newest CUDA that it supports: 12040 is 12.4. */
      readonly cuda: number;
      /** Of cuInit; 0: it works. */
      readonly initError: number;
      readonly cards: readonly Card[];
    };

const MAJOR = 75;
const MINOR = 76;
const NAME_BYTES = 256;

/** `open` gives the driver's functions, or why there are none. */
export function readDriver(open: () => CudaDriver | string = openCudaDriver): DriverReport {
  const driver = open();
  if (typeof driver === 'string') return { missing: driver };
  const number = (call: (out: Int32Array) => number): number => {
    const out = new Int32Array(1);
    return call(out) === 0 ? out[0]! : 0;
  };
  const cuda = number((out) => driver.cuDriverGetVersion(out));
  const initError = driver.cuInit(0);
  const count = initError === 0 ? number((out) => driver.cuDeviceGetCount(out)) : 0;
  const cards = Array.from({ length: count }, (_, index): Card => {
    const device = number((out) => driver.cuDeviceGet(out, index));
    const attribute = (which: number) => number((out) => driver.cuDeviceGetAttribute(out, which, device));
    const bytes = new Uint8Array(NAME_BYTES);
    driver.cuDeviceGetName(bytes, NAME_BYTES, device);
    const name = Buffer.from(bytes.subarray(0, Math.max(0, bytes.indexOf(0)))).toString('utf8');
    return { name, capability: [attribute(MAJOR), attribute(MINOR)] };
  });
  return { cuda, initError, cards };
}

/** What is wrong, and what to do; both are sentences. */
export interface DriverTrouble {
  readonly what: string;
  readonly cure: string;
}

/** The oldest that CUDA 12 runs on, as CUDA's version and as the driver's. */
const OLDEST = { cuda: 12_000, driver: '525.60.13' };
/** Compute capabilities that TensorFlow's kernels are built for. */
const OLDEST_CAPABILITY = [6, 0] as const;
const NEWEST_CAPABILITY = [9, 0] as const;

/** Results of cuInit with a cure of their own. */
const NO_DEVICE = 100;
const INIT_ERRORS: Readonly<Record<number, DriverTrouble>> = {
  34: {
    what: 'The libcuda.so.1 that is found is a stub for compilers.',
    cure: "Take the folder of stubs out of LD_LIBRARY_PATH, so that the driver's own is found.",
  },
  802: {
    what: 'The NVIDIA driver says that the system is not ready.',
    cure: 'Start the fabric manager (nvidia-fabricmanager), and look at nvidia-smi.',
  },
  803: {
    what: "The NVIDIA driver's library and its kernel module have different versions.",
    cure: 'Restart the machine, or load the kernel module again; in a container, use the library of the host.',
  },
};

/** Why TensorFlow finds no GPU, as far as the driver knows; `visibleGpus` is CUDA_VISIBLE_DEVICES. Null where the driver is well and has a card that fits. */
export function driverTrouble(report: DriverReport, visibleGpus: string | undefined): DriverTrouble | null {
  const inContainer = 'in a container, start it with --gpus all';
  if ('missing' in report) {
    return {
      what: `The NVIDIA driver is not installed: ${report.missing}.`,
      cure: `Install the driver, ${OLDEST.driver} or later; ${inContainer}.`,
    };
  }
  const { cuda, initError, cards } = report;
  if (cuda !== 0 && cuda < OLDEST.cuda) {
    return {
      what: `The NVIDIA driver is too old: it supports CUDA ${cudaText(cuda)}, expected ${cudaText(OLDEST.cuda)} or later.`,
      cure: `Update the driver to ${OLDEST.driver} or later.`,
    };
  }
  const known = INIT_ERRORS[initError];
  if (known) return known;
  if (initError !== 0 && initError !== NO_DEVICE)
    return { what: `The NVIDIA driver does not start (error ${initError} of cuInit).`, cure: 'Look at nvidia-smi.' };
  if (cards.length === 0) {
    return visibleGpus === undefined
      ? { what: 'The NVIDIA driver has no GPU.', cure: `Look at nvidia-smi; ${inContainer}.` }
      : {
          what: `The NVIDIA driver shows no GPU: CUDA_VISIBLE_DEVICES is ${JSON.stringify(visibleGpus)}.`,
          cure: 'Correct that variable, or unset it.',
        };
  }
  if (cards.some(({ capability }) => !isBelow(capability, OLDEST_CAPABILITY))) return null;
  return {
    what: `${cardText(cards[0]!, 0)}, expected ${OLDEST_CAPABILITY.join('.')} or later.`,
    cure: 'This TensorFlow has no kernels for it: use another GPU.',
  };
}

/** Cards that are newer than TensorFlow's kernels, which the driver then has to compile; a sentence each. */
export function newCards(report: DriverReport): string[] {
  if ('missing' in report) return [];
  return report.cards.flatMap((card, index) => {
    if (!(card.capability[0] > NEWEST_CAPABILITY[0])) return [];
    const text = `${cardText(card, index)}, newer than TensorFlow's kernels (${NEWEST_CAPABILITY.join('.')}): the driver compiles them, which may take half an hour at the first start, or fail.`;
    return [text];
  });
}

function isBelow([major, minor]: readonly [number, number], [least, leastMinor]: readonly [number, number]): boolean {
  return major < least || (major === least && minor < leastMinor);
}

function cardText({ name, capability }: Card, index: number): string {
  return `GPU ${index} (${name}) has compute capability ${capability.join('.')}`;
}

function cudaText(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}
