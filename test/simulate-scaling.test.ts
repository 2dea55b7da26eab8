/** The simulation of scaling against what it must reproduce: hand-made budgets, this project's measurements, published figures. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { MACHINES, type Machine, type SimulationOptions, simulate, WORKS } from '../bench/simulate-scaling.js';

const SHARED: SimulationOptions = { path: 'shared-memory', exact: true, overlap: 0 };
const NCCL: SimulationOptions = { path: 'nccl', exact: false, overlap: 0 };
const H100 = MACHINES['h100-sxm']!;
const near = (value: number, expected: number, tolerance: number) =>
  assert(Math.abs(value / expected - 1) <= tolerance, `${value}, expected ${expected} within ${100 * tolerance} %`);

test('one GPU has efficiency 1; a faster part of the machine makes nothing slower', () => {
  for (const work of Object.values(WORKS)) {
    for (const options of [SHARED, { ...SHARED, exact: false }, NCCL]) {
      assert.equal(simulate(1, work, H100, options).efficiency, 1);
      for (const gpus of [2, 8, 64]) {
        const before = simulate(gpus, work, H100, options).imagesPerSecond;
        for (const part of ['pcie', 'pcieOfHost', 'memory', 'nvlink', 'network'] as const) {
          const faster: Machine = { ...H100, [part]: 2 * H100[part] };
          assert(simulate(gpus, work, faster, options).imagesPerSecond >= before, part);
        }
      }
    }
  }
});

test('the budget that was made by hand: ResNet-50 at 32×32 on 4 GPUs of PCIe 5, memory of 150 GB/s', () => {
  const machine: Machine = { ...H100, gpusPerHost: 4, memory: 150e9, barrier: 0 };
  const { reduceSeconds } = simulate(4, WORKS['resnet50-32']!, machine, SHARED);
  near(reduceSeconds, 6.5e-3, 0.02); // 1.7 out, 3.1 to add, 1.7 back
});

test('the all-reduce of two ranks on a processor, as measured, from its copy bandwidth', () => {
  const folder = fileURLToPath(new URL('../../bench/results/', import.meta.url));
  const file = fs.readdirSync(folder).find((name) => name.startsWith('all-reduce-amd-epyc-2-cores'))!;
  const { pairs } = JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8')) as {
    pairs: { dtrain: number; memcpyBytesPerSecond: number }[];
  };
  for (const { dtrain, memcpyBytesPerSecond } of pairs) {
    // On a processor there is no PCIe to cross: infinitely fast.
    const machine: Machine = {
      ...H100,
      pcie: Number.POSITIVE_INFINITY,
      pcieOfHost: Number.POSITIVE_INFINITY,
      memory: memcpyBytesPerSecond,
    };
    const work = { name: '', imagesPerGpu: 1, computeSeconds: 1, gradientBytes: 94_371_840 };
    near(simulate(2, work, machine, SHARED).reduceSeconds, dtrain, 0.3);
  }
});

test('published figures lie between no overlap and all of the backward pass', () => {
  // Horovod, 512 Pascal in hosts of four, 25 Gbit/s: ResNet-101 90 %, VGG-16 68 % (arXiv 1802.05799); speeds of one P100 by batches of 64.
  const pascal: Machine = { ...H100, gpusPerHost: 4, nvlink: 40e9, network: 25e9 / 8, networkLatency: 0 };
  for (const [gradientBytes, imagesPerSecond, published] of [
    [178e6, 130, 0.9],
    [552e6, 145, 0.68],
  ] as const) {
    const work = { name: '', imagesPerGpu: 64, computeSeconds: 64 / imagesPerSecond, gradientBytes };
    const [least, most] = [0, 2 / 3].map((overlap) => simulate(512, work, pascal, { ...NCCL, overlap }).efficiency);
    assert(least! < published && published < most!, `${least} to ${most}`);
  }
  // MLPerf v4.0, H100 SXM, 4 → 8 GPUs in mixed precision: 57,295 / (2 × 28,618) = 100.1 %; v3.0 A100 97.8 % at 8 against one.
  const mixed = { name: '', imagesPerGpu: 408, computeSeconds: 408 / 7162, gradientBytes: 51e6 };
  const [four, eight] = [4, 8].map((gpus) => simulate(gpus, mixed, H100, NCCL).imagesPerSecond);
  near(eight! / (2 * four!), 57_295 / (2 * 28_618), 0.005);
});
