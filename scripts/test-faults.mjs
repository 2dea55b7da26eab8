// npm run test:faults: breaks dtrain on purpose, and tells what became of it. Arguments are parts of file names, as for npm test;
// `--write` also writes the record and docs/reliability.md.
import { runRecorded } from './recorded-tests.mjs';

const preface = `
# Reliability: what dtrain survives, and how that is shown

Every row below was made by injecting the fault into a real run, process or file, and looking at what came of it: exit code, message, time,
and what was lost. \`npm run test:faults\` does it again; \`npm run test:faults -- --write\` writes this page from its record,
docs/results/reliability.jsonl. Longer runs of the same proofs are in [results/reliability-long.md](results/reliability-long.md).

- **A checkpoint appears by one rename**, after all its bytes and names were synced. What is listed as \`step-N\` is whole; what a dead process
  left behind is removed at the next start; a damaged checkpoint is set aside, never deleted, and the one before it is used.
- **After kill -9 at most one checkpoint interval and the save in flight are lost.** What is done again has the same bits.
- **A resumed run is the undisturbed run**: weights, optimizer, averages, statistics, schedule, order of samples, random numbers, metrics. That
  holds for any number of workers that divides \`train.logicalShards\`, on the same kind of device with the same \`train.threadsPerWorker\`.
- **No wait is without a deadline.** Who fails tells the others; who does not come is named.

What a power failure leaves is modelled, not tried: the model drops, reorders and tears everything that was not synced, as far as POSIX allows. A
disk that lies about a sync is outside of it. Exit codes: [errors.md](errors.md). What was decided and why: [decisions/0006](decisions/0006-nothing-is-lost.md).
`;

await runRecorded({
  folder: 'faults',
  store: 'docs/results/reliability.jsonl',
  page: 'docs/reliability.md',
  preface,
});
