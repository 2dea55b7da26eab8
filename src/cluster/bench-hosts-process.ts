/** The entry of one point of `bench scaling --hosts`: a HostsBenchTask as JSON in the first argument, the result as JSON on standard output. */
import { benchStep } from '../run/bench-step.js';
import type { HostsBenchTask } from './bench-scaling-on-hosts.js';
import { hostGroup } from './host-group.js';

try {
  const { options, spec } = JSON.parse(process.argv[2]!) as HostsBenchTask;
  const result = await benchStep(spec === null ? options : { ...options, hosts: hostGroup(spec) });
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`, () => process.exit(1));
}
