/**
 * What configs/cluster gives people: the fields that are used, held to the schemas of Kubernetes (batch/v1, networking.k8s.io/v1, jobset v1alpha2)
 * and Compose as far as they are used, without a field that they do not have; and that the parts fit one another and dtrain.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { clusterSpec } from '../src/cluster/cluster-spec.js';
import { loadConfig } from '../src/config/load.js';

const FOLDER = fileURLToPath(new URL('../../configs/cluster/', import.meta.url));
const text = (file: string) => fs.readFileSync(path.join(FOLDER, file), 'utf8');

const labels = z.record(z.string(), z.string());
const metadata = z.strictObject({ name: z.string().regex(/^[a-z0-9-]+$/) });
const port = z.number().int().min(1).max(65_535);
const size = z.string().regex(/^[0-9]+(Mi|Gi)?$/);
const quantity = z.union([z.number().int(), size]);
const selector = z.strictObject({ matchLabels: labels });
const policyPort = z.strictObject({ protocol: z.enum(['TCP', 'UDP']), port });
const peer = z.strictObject({ podSelector: selector.optional(), namespaceSelector: selector.optional() });

const service = z.strictObject({
  apiVersion: z.literal('v1'),
  kind: z.literal('Service'),
  metadata,
  spec: z.strictObject({
    clusterIP: z.literal('None'),
    publishNotReadyAddresses: z.literal(true),
    selector: labels,
    ports: z.array(z.strictObject({ name: z.string(), port })),
  }),
});
const networkPolicy = z.strictObject({
  apiVersion: z.literal('networking.k8s.io/v1'),
  kind: z.literal('NetworkPolicy'),
  metadata,
  spec: z.strictObject({
    podSelector: selector,
    policyTypes: z.tuple([z.literal('Ingress'), z.literal('Egress')]),
    ingress: z.array(z.strictObject({ from: z.array(peer).min(1), ports: z.array(policyPort).min(1) })),
    egress: z.array(z.strictObject({ to: z.array(peer).min(1), ports: z.array(policyPort).min(1) })),
  }),
});
const container = z.strictObject({
  name: z.string(),
  image: z.string(),
  args: z.array(z.string()),
  env: z.array(z.strictObject({ name: z.string(), value: z.string() })),
  ports: z.array(z.strictObject({ name: z.string().max(15), containerPort: port })),
  resources: z.strictObject({ requests: z.record(z.string(), quantity), limits: z.record(z.string(), quantity) }),
  securityContext: z.strictObject({
    allowPrivilegeEscalation: z.literal(false),
    readOnlyRootFilesystem: z.literal(true),
    capabilities: z.strictObject({ drop: z.tuple([z.literal('ALL')]) }),
  }),
  livenessProbe: z.strictObject({
    exec: z.strictObject({ command: z.array(z.string()) }),
    initialDelaySeconds: z.number(),
    periodSeconds: z.number(),
    failureThreshold: z.number(),
  }),
  volumeMounts: z.array(
    z.strictObject({ name: z.string(), mountPath: z.string().startsWith('/'), readOnly: z.boolean().optional() }),
  ),
});
const volume = z.strictObject({
  name: z.string(),
  persistentVolumeClaim: z.strictObject({ claimName: z.string(), readOnly: z.boolean().optional() }).optional(),
  emptyDir: z.strictObject({ medium: z.literal('Memory').optional(), sizeLimit: size }).optional(),
});
const podSpec = z.strictObject({
  subdomain: z.string().optional(),
  restartPolicy: z.literal('Never'),
  terminationGracePeriodSeconds: z.number().min(60),
  automountServiceAccountToken: z.literal(false),
  enableServiceLinks: z.literal(false),
  securityContext: z.strictObject({
    runAsNonRoot: z.literal(true),
    runAsUser: z.literal(10_001),
    runAsGroup: z.literal(10_001),
    fsGroup: z.literal(10_001),
    seccompProfile: z.strictObject({ type: z.literal('RuntimeDefault') }),
  }),
  containers: z.array(container).length(1),
  volumes: z.array(volume),
});
const failureRule = z.strictObject({
  action: z.enum(['Ignore', 'FailJob', 'Count']),
  onPodConditions: z.array(z.strictObject({ type: z.string(), status: z.literal('True') })).optional(),
  onExitCodes: z
    .strictObject({ containerName: z.string(), operator: z.enum(['In', 'NotIn']), values: z.array(z.number()).min(1) })
    .optional(),
});
const jobSpec = z.strictObject({
  completionMode: z.literal('Indexed'),
  completions: z.number(),
  parallelism: z.number(),
  backoffLimit: z.number(),
  podReplacementPolicy: z.literal('Failed').optional(),
  podFailurePolicy: z.strictObject({ rules: z.array(failureRule) }),
  template: z.strictObject({ metadata: z.strictObject({ labels }).optional(), spec: podSpec }),
});
const job = z.strictObject({ apiVersion: z.literal('batch/v1'), kind: z.literal('Job'), metadata, spec: jobSpec });
const jobSet = z.strictObject({
  apiVersion: z.literal('jobset.x-k8s.io/v1alpha2'),
  kind: z.literal('JobSet'),
  metadata,
  spec: z.strictObject({
    network: z.strictObject({
      enableDNSHostnames: z.literal(true),
      publishNotReadyAddresses: z.literal(true),
      subdomain: z.string(),
    }),
    failurePolicy: z.strictObject({
      maxRestarts: z.number(),
      rules: z.array(
        z.strictObject({
          name: z.string(),
          action: z.enum(['FailJobSet', 'RestartJobSet', 'RestartJobSetAndIgnoreMaxRestarts']),
          onJobFailureReasons: z.array(z.enum(['BackoffLimitExceeded', 'DeadlineExceeded', 'PodFailurePolicy'])),
        }),
      ),
    }),
    replicatedJobs: z
      .array(z.strictObject({ name: z.string(), replicas: z.literal(1), template: z.strictObject({ spec: jobSpec }) }))
      .length(1),
  }),
});

function documents(file: string): Map<string, unknown> {
  const all = parseAllDocuments(text(file)).map((document) => document.toJS() as { kind: string });
  return new Map(all.map((document) => [document.kind, document]));
}

/** A Job's or JobSet's pods as Kubernetes names them, and what selects them. */
const KINDS = [
  {
    file: 'kubernetes-job.yaml',
    podName: (i: number) => `dtrain-${i}`,
    jobOf: (all: Map<string, unknown>) => {
      const { spec } = job.parse(all.get('Job'));
      const { spec: found, metadata: named } = service.parse(all.get('Service'));
      assert.equal(spec.template.spec.subdomain, named.name);
      assert.deepEqual(spec.template.metadata!.labels, found.selector);
      return { spec, podLabels: spec.template.metadata!.labels, subdomain: named.name };
    },
  },
  {
    file: 'kubernetes-jobset.yaml',
    podName: (i: number) => `dtrain-hosts-0-${i}`,
    jobOf: (all: Map<string, unknown>) => {
      const { spec, metadata: named } = jobSet.parse(all.get('JobSet'));
      const { subdomain } = spec.network;
      const podLabels = { 'jobset.sigs.k8s.io/jobset-name': named.name };
      return { spec: spec.replicatedJobs[0]!.template.spec, podLabels, subdomain };
    },
  },
];

for (const { file, podName, jobOf } of KINDS) {
  test(`${file}: fields, names and numbers fit`, () => {
    const all = documents(file);
    const { spec, podLabels, subdomain } = jobOf(all);
    const pod = spec.template.spec;
    const [main] = pod.containers;
    const env = Object.fromEntries(main!.env.map(({ name, value }) => [name, value]));
    assert.equal(spec.completions, spec.parallelism, 'all pods run at once');
    assert.equal(env['JOB_COMPLETIONS'], `${spec.completions}`);
    assert.deepEqual(main!.volumeMounts.map(({ name }) => name).sort(), pod.volumes.map(({ name }) => name).sort());
    for (const needed of ['/workspace/runs', '/cache', '/tmp', '/dev/shm']) {
      assert(
        main!.volumeMounts.some(({ mountPath }) => mountPath === needed),
        needed,
      );
    }
    const fatal = spec.podFailurePolicy.rules.find(({ action }) => action === 'FailJob')!.onExitCodes!;
    assert.equal(fatal.containerName, main!.name);
    assert.deepEqual(fatal.values, [1, 2, 3, 4, 5, 6, 7, 8, 9], 'what would end so again; not 10 to 13, not 75');

    const policy = networkPolicy.parse(all.get('NetworkPolicy')).spec;
    assert.deepEqual(policy.podSelector.matchLabels, podLabels);
    assert.deepEqual(policy.ingress, [
      { from: [{ podSelector: { matchLabels: podLabels } }], ports: [{ protocol: 'TCP', port: 8888 }] },
    ]);

    assert.equal(main!.args[0], 'train');
    const overrides = main!.args.filter((word) => word.includes('='));
    const config = loadConfig({ file: main!.args[2]!, overrides });
    const found = clusterSpec({
      config,
      env: { ...env, JOB_COMPLETION_INDEX: '1', HOSTNAME: podName(1) },
      hostname: podName(1),
      say: () => undefined,
    });
    const addresses = [0, 1].map((i) => `${podName(i)}.${subdomain}:${main!.ports[0]!.containerPort}`);
    assert.deepEqual(found, { addresses, rank: 1 });
  });
}

const compose = z.strictObject({
  services: z.strictObject({
    dtrain: z.strictObject({
      image: z.string(),
      command: z.array(z.string()),
      network_mode: z.literal('none'),
      read_only: z.literal(true),
      user: z.literal('10001:10001'),
      cap_drop: z.tuple([z.literal('ALL')]),
      security_opt: z.tuple([z.literal('no-new-privileges:true')]),
      shm_size: z.literal('1gb'),
      ulimits: z.strictObject({ memlock: z.literal(-1) }),
      stop_grace_period: z.string(),
      restart: z.literal('no'),
      tmpfs: z.array(z.string()),
      volumes: z.array(z.string()),
      deploy: z.strictObject({
        resources: z.strictObject({
          limits: z.strictObject({ memory: z.string() }),
          reservations: z.strictObject({
            devices: z.array(
              z.strictObject({ driver: z.string(), count: z.literal('all'), capabilities: z.array(z.string()) }),
            ),
          }),
        }),
      }),
    }),
  }),
  volumes: z.record(z.string(), z.null()),
});

test('compose.yaml: fields fit, and its command is one of dtrain', () => {
  const { services } = compose.parse(parse(text('compose.yaml')));
  const { command } = services.dtrain;
  assert.equal(loadConfig({ file: command[2]! }).cluster.hosts, null);
});

/**
 * Runs slurm.sh with a `dtrain` that tells its words and ends with its task's code, an `srun` that runs all tasks, one after the other, and ends
 * with the largest code, as Slurm's, and an `scontrol` that tells its words.
 */
function runBatchScript(...codes: number[]): { status: number | null; lines: string[] } {
  const folder = fs.mkdtempSync(path.join(process.env['TMPDIR'] ?? '/tmp', 'dtrain-slurm-'));
  const write = (name: string, text: string) =>
    fs.writeFileSync(path.join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  try {
    write('dtrain', 'echo dtrain "$@"; exit $CODE');
    write('scontrol', 'echo scontrol "$@"');
    const tasks = codes.map((code) => `(export CODE=${code}; "$@"); code=$?; [ $code -le $most ] || most=$code`);
    write('srun', ['[ "$1" = --kill-on-bad-exit=0 ] || exit 99', 'shift; most=0', ...tasks, 'exit $most'].join('\n'));
    const env = { PATH: `${folder}:${process.env['PATH']}`, SLURM_JOB_ID: '42', SLURM_JOB_NAME: 'dtrain' };
    const words = [path.join(FOLDER, 'slurm.sh'), '--config', 'resnet50'];
    const { status, stdout } = spawnSync('bash', words, { env, encoding: 'utf8' });
    return { status, lines: stdout.trim().split('\n') };
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

test('slurm.sh asks to run again after what a new start mends, and after nothing else', () => {
  const task = 'dtrain train --config resnet50 --run-dir runs/dtrain --resume cluster.trustedNetwork=true';
  const requeue = 'scontrol requeue 42';
  for (const code of [75, 12])
    assert.deepEqual(runBatchScript(code, code), { status: code, lines: [task, task, requeue] });
  assert.deepEqual(runBatchScript(12, 75), { status: 75, lines: [task, task, requeue] });
  for (const code of [0, 3, 8, 10, 11, 13, 143])
    assert.deepEqual(runBatchScript(code, code), { status: code, lines: [task, task] }, `${code}`);
  // One host cannot go on, so the others lose it.
  for (const code of [1, 7, 10, 13]) {
    assert.deepEqual(runBatchScript(code, 12), { status: code, lines: [task, task] }, `${code} and 12`);
    assert.deepEqual(runBatchScript(75, code), { status: code, lines: [task, task] }, `75 and ${code}`);
  }
});
