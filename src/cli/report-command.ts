/** `dtrain report` and `dtrain watch`: a page about runs, written or served. */
import path from 'node:path';
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { countText } from './number-text.js';
import { StopOnSignal } from './stop-on-signal.js';

export async function reportCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const sources = flags.words('RUN');
  const out = flags.text('out') ?? (sources.length === 1 ? path.join(sources[0]!, 'report.html') : 'report.html');
  const { runs, bytes } = await run.writeReport({ sources, out });
  console.out(`${out}: ${runs} ${runs === 1 ? 'run' : 'runs'}, ${countText(bytes)} bytes`);
  return 0;
}

/** Until it is interrupted. */
export async function watchCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const port = flags.count('port', 0, { min: 0, max: 65_535 });
  const server = await run.watchRun(flags.text('RUN') ?? '', port);
  console.out(server.url);
  console.say('the page follows the run; Ctrl-C ends it');
  using stop = new StopOnSignal(() => undefined);
  await new Promise((resolve) => stop.signal.addEventListener('abort', resolve, { once: true }));
  await server.close();
  return 0;
}
