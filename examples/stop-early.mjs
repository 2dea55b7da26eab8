// Training from a program: the events as they come, and a stop by AbortSignal that leaves a checkpoint.
//
//   node examples/stop-early.mjs
//
// The run ends after the step in which the signal is aborted; `train` then throws DTRAIN_STOPPED, whose message names the checkpoint.
import { DtrainError, loadConfig, train } from 'dtrain';

const overrides = ['data.name=synthetic', 'train.globalBatch=64', 'train.maxSteps=500', 'checkpoint.everySteps=10'];
const config = loadConfig({ file: 'resnet20', overrides });
const stop = new AbortController();

try {
  for await (const event of train(config, { name: 'stop-early', signal: stop.signal })) {
    if (event.event !== 'step') continue;
    console.log(`step ${event.step}: loss ${event.loss.toFixed(3)}`);
    if (event.step >= 20) stop.abort();
  }
} catch (error) {
  if (!(error instanceof DtrainError) || error.code !== 'DTRAIN_STOPPED') throw error;
  console.log(error.message);
}
