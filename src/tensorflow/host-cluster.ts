/**
 * Several hosts as TensorFlow knows them: tasks of one job, each a server on a port; task i is host i.
 *
 * Idea: joining starts the server and gives the context a collective executor that meets the other tasks; what the ranks' devices are
 * called within the process stays the same. The configuration of the context and of the server are the same bytes.
 * Must stay true: a process joins at most once, before any tensor exists; the server never stops while the process lives, and an abort of
 * the collectives is for ever. The port has no authentication and listens on every interface: who may reach it is decided elsewhere.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import type { Native, Pointer } from './c-api.js';
import { field, message } from './protobuf.js';
import { Status } from './status.js';

export interface ClusterPlace {
  /** `host:port` of every host, by rank. */
  readonly addresses: readonly string[];
  /** The index of this host. */
  readonly rank: number;
}

interface Member {
  readonly native: Native;
  readonly status: Status;
  readonly context: Pointer;
}

const JOB = 'worker';
const taskName = (rank: number): string => `/job:${JOB}/replica:0/task:${rank}`;

/** What ConfigProto says of several hosts: device_filters 4 (own devices alone), experimental 16 {collective_group_leader 1}. */
export function clusterFields({ rank }: ClusterPlace): Buffer[] {
  return [field(4, `/job:${JOB}/task:${rank}`), field(16, field(1, taskName(0)))];
}

/** Starts the server and joins. Returns at once, whoever else is there. @throws DTRAIN_PORT (exit 4). */
export function joinCluster({ native, status, context }: Member, config: Uint8Array, place: ClusterPlace): void {
  const serverDef = serverProto(place, config);
  native.collectives().TFE_EnableCollectiveOps(context, serverDef, serverDef.length, status.pointer);
  const address = place.addresses[place.rank]!;
  try {
    status.check(() => 'TFE_EnableCollectiveOps');
  } catch (cause) {
    const port = address.slice(address.lastIndexOf(':') + 1);
    const text = `host ${place.rank} (${address}): port ${port} cannot be opened on this machine; another process may hold it. End that process, or choose another port in --hosts on every host.`;
    throw new DtrainError('DTRAIN_PORT', ExitCode.environment, text, { cause });
  }
}

/** ServerDef: cluster 1 {job 1 {name 1, tasks 2 map}}, job_name 2, task_index 3, default_session_config 4, protocol 5. */
function serverProto({ addresses, rank }: ClusterPlace, config: Uint8Array): Buffer {
  const tasks = addresses.map((address, i) => field(2, message(field(1, i), field(2, address))));
  const job = field(1, message(field(1, JOB), ...tasks));
  return message(field(1, job), field(2, JOB), field(3, rank), field(4, config), field(5, 'grpc'));
}

/** What a peer answered. */
export interface PeerHealth {
  /** TF_Code: 0 well, 4 no answer in time, 14 nobody there, 9 another process than before. */
  readonly code: number;
  readonly message: string;
}

/** Asks host `rank` whether it is there; waits up to `seconds` on a thread of libuv's pool. Never rejects. Main thread. */
export function checkPeer(
  { native, context }: Omit<Member, 'status'>,
  rank: number,
  seconds: number,
): Promise<PeerHealth> {
  const { pointer } = new Status(native.c); // a status of its own: the thread's may be in use meanwhile
  return new Promise((resolve) =>
    native.collectives().checkPeerHealth(context, taskName(rank), Math.round(seconds * 1000), pointer, () => {
      resolve({ code: native.c.TF_GetCode(pointer), message: native.c.TF_Message(pointer) });
      native.collectives().TF_DeleteStatus(pointer);
    }),
  );
}

const UNAVAILABLE = 14;

/** Makes every collective of this process that waits now, or is called later, fail at once. Any thread. */
export function abortCollectives({ native, context }: Omit<Member, 'status'>, reason: string): void {
  const { pointer } = new Status(native.c);
  native.collectives().TF_SetStatus(pointer, UNAVAILABLE, reason);
  native.collectives().TFE_AbortCollectiveOps(context, pointer);
  native.collectives().TF_DeleteStatus(pointer);
}
