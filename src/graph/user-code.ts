/**
 * Where in the user's code something happens, for messages: the tfjs layer that is being called and the line that asked.
 */
const STACK_FRAMES = 50;
const layers: string[] = [];

/** Runs `call` as part of the layer `name`. */
export function insideLayer<T>(name: string, call: () => T): T {
  layers.push(name);
  try {
    return call();
  } finally {
    layers.pop();
  }
}

/** ` in layer dense_1 (file:///models/mine.mjs:12:7)`, as far as it is known. */
export function placeInUserCode(): string {
  const layer = layers.at(-1);
  return `${layer === undefined ? '' : ` in layer ${layer}`}${callerLine()}`;
}

/** The line of the user's code: the first frame outside of packages, of dtrain itself and of JavaScript's own. */
function callerLine(): string {
  const own = new URL('..', import.meta.url).href;
  const foreign = ['node_modules', own, 'node:', '(<anonymous>)'];
  const usualFrames = Error.stackTraceLimit;
  Error.stackTraceLimit = STACK_FRAMES; // tfjs alone takes the usual ten
  const frames = (new Error().stack ?? '').split('\n').slice(1);
  Error.stackTraceLimit = usualFrames;
  const frame = frames.find((line) => !foreign.some((part) => line.includes(part)));
  return frame ? ` (${frame.trim().replace(/^at /, '')})` : '';
}
