/** The hosts of a run as the run layer wants them: comparison and watch over the addresses of a ClusterSpec. */
import type { HostGroup } from '../run/host-link.js';
import type { ClusterSpec } from './cluster-spec.js';
import { HealthWatch, silentHosts } from './health.js';
import { compareHosts } from './rendezvous.js';

/** A host that still copies its image or its data is waited for. */
const RENDEZVOUS_SECONDS = 600;

export function hostGroup({ addresses, rank }: ClusterSpec, rendezvousSeconds: number = RENDEZVOUS_SECONDS): HostGroup {
  return {
    addresses,
    rank,
    rendezvousSeconds,
    compare: (facts) => compareHosts(facts, addresses),
    watch: (ask) => new HealthWatch(ask, addresses, rank),
    findSilent: (ask) => silentHosts(ask, addresses, rank),
  };
}
