/**
 * How often the kernel has killed a process of this control group for want of memory: how a SIGKILL is told from one by a person.
 *
 * cgroup v2 has it in memory.events, v1 in memory.oom_control, both as a line `oom_kill N`. Seen from inside a container, the group of
 * /proc/self/cgroup may lie at the root of what is mounted.
 */
import fs from 'node:fs';
import path from 'node:path';

const ROOT = '/sys/fs/cgroup';

/** The file that counts for this process; undefined where there is none. */
export function memoryEventsFile(groups = readText('/proc/self/cgroup') ?? ''): string | undefined {
  const lines = groups.split('\n').map((line) => line.split(':'));
  const unified =
    lines
      .find(([id]) => id === '0')
      ?.slice(2)
      .join(':') ?? '/';
  const memory =
    lines
      .find(([, controllers]) => controllers?.split(',').includes('memory'))
      ?.slice(2)
      .join(':') ?? '/';
  const candidates = [
    path.join(ROOT, unified, 'memory.events'),
    path.join(ROOT, 'memory.events'),
    path.join(ROOT, 'memory', memory, 'memory.oom_control'),
    path.join(ROOT, 'memory', 'memory.oom_control'),
  ];
  return candidates.find((file) => memoryKills(file) !== undefined);
}

/** Undefined where the file is not there or counts nothing. */
export function memoryKills(file: string | undefined): number | undefined {
  const count = /^oom_kill (\d+)$/m.exec((file && readText(file)) || '')?.[1];
  return count === undefined ? undefined : Number(count);
}

function readText(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
