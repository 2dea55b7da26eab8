// npm run test:long: the proofs of test:faults at length, which take hours. Arguments are parts of file names, so that a part can be run alone;
// `--write` also writes the record and docs/results/reliability-long.md, keeping what other parts recorded.
import { runRecorded } from './recorded-tests.mjs';

const preface = `
# The long proofs

Made by \`npm run test:long -- --write\` from its record, reliability-long.jsonl. The shorter ones, and what they mean, are in
[../reliability.md](../reliability.md).
`;

await runRecorded({
  folder: 'long',
  store: 'docs/results/reliability-long.jsonl',
  page: 'docs/results/reliability-long.md',
  preface,
});
