// Runs the tests of one folder one after another, collects what they record (test/faults/record.ts), and makes a page of it.
//
// Records are kept by file, one JSON line each, so that a part can be run again without the rest: `--write` replaces the lines of the files
// that ran and writes the page anew. Without it nothing in the tree changes; the table is printed.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);

/**
 * `folder`: below dist/test; `store`: the committed JSON lines; `page`: the committed page; `preface`: its text up to the tables.
 * Words of the command line are parts of file names, and `--write`. The exit code is 1 where a test fails or a record says so.
 */
export async function runRecorded({ folder, store, page, preface }) {
  execFileSync(process.execPath, ['scripts/build.mjs'], { stdio: 'inherit' });
  execFileSync(process.execPath, ['dist/src/cli/main.js', 'setup', '--cpu', '--quiet'], { stdio: 'inherit' });
  const words = process.argv.slice(2);
  const isWriting = words.includes('--write');
  const wanted = words.filter((word) => word !== '--write');
  const all = fs.readdirSync(`dist/test/${folder}`).filter((file) => file.endsWith('.test.js'));
  const files = all.filter((file) => wanted.length === 0 || wanted.some((word) => file.includes(word))).sort();
  if (files.length === 0) throw new Error(`no test file matches ${wanted.join(', ')}`);

  const facts = await machineFacts();
  let failed = false;
  let records = fs.existsSync(store) ? parseLines(fs.readFileSync(store, 'utf8')) : [];
  records = isWriting ? records.filter(({ file }) => all.includes(`${file}.test.js`)) : [];
  for (const file of files) {
    const name = file.replace(/\.test\.js$/, '');
    const { status, lines, seconds } = runFile(path.join('dist/test', folder, file));
    console.log(`${name}: ${status === 0 ? 'passed' : 'FAILED'} in ${seconds.toFixed(1)} s`);
    failed ||= status !== 0;
    const own = lines.map((line) => ({ file: name, ...line, ...facts, pass: line.pass && status === 0 }));
    records = [...records.filter((record) => record.file !== name), ...own];
    if (isWriting) {
      fs.mkdirSync(path.dirname(store), { recursive: true });
      fs.writeFileSync(store, records.map((record) => `${JSON.stringify(record)}\n`).join(''));
      fs.writeFileSync(page, pageOf(preface, records));
    }
  }
  failed ||= records.some(({ pass }) => !pass);
  if (!isWriting) console.log(`\n${tables(records)}`);
  process.exitCode = failed ? 1 : 0;
}

/** Runs one file with a JSON-lines file of its own to record into; `extra` are more variables of its environment. */
export function runFile(file, extra = {}) {
  const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-record-'));
  try {
    const record = path.join(temporary, 'record.jsonl');
    const env = { ...process.env, ...extra, DTRAIN_FAULTS_RECORD: record };
    const start = process.hrtime.bigint();
    const { status } = spawnSync(process.execPath, ['--test', '--test-force-exit', file], { stdio: 'inherit', env });
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    return { status, seconds, lines: fs.existsSync(record) ? parseLines(fs.readFileSync(record, 'utf8')) : [] };
  } finally {
    fs.rmSync(temporary, { recursive: true, force: true });
  }
}

function parseLines(text) {
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

/** The class of the machine, not its name. */
async function machineFacts() {
  const { TENSORFLOW_VERSION } = await import('../dist/src/tensorflow/install-manifest.js');
  const [cpu] = os.cpus();
  const model = cpu.model.replace(/\s+/g, ' ').trim();
  const gibibytes = Math.round(os.totalmem() / 2 ** 30);
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: `${model}, ${os.availableParallelism()} cores, ${gibibytes} GiB, no GPU used`,
    node: process.version.slice(1),
    tensorflow: TENSORFLOW_VERSION,
  };
}

function pageOf(preface, records) {
  const distinct = (key) => [...new Set(records.map((record) => record[key]))].sort().join('; ');
  const where = `Machine: ${distinct('machine')}. Node ${distinct('node')}, TensorFlow ${distinct('tensorflow')}. Recorded ${distinct('date')}.`;
  return `${preface.trim()}\n\n${where}\n\n${tables(records)}\n`;
}

function tables(records) {
  const rows = records.filter(({ row }) => row !== undefined).sort((a, b) => a.row - b.row);
  const proofs = records.filter(({ row }) => row === undefined);
  const passed = rows.filter(({ pass }) => pass).length;
  const numbers = new Set(rows.map(({ row }) => row)).size;
  const parts = [];
  if (rows.length > 0) {
    parts.push(`## Faults: ${passed} of ${rows.length} injections passed, ${numbers} rows of the matrix\n`);
    const heads = ['#', 'fault', 'injected', 'observed', 'exit code', 'seconds', 'lost', ''];
    const cells = rows.map((row) => [
      row.row,
      row.fault,
      row.injected,
      row.observed,
      row.code ?? '–',
      row.seconds === null ? '–' : row.seconds.toFixed(1),
      row.lost,
      row.pass ? 'pass' : '**fail**',
    ]);
    parts.push(table(heads, cells));
  }
  if (proofs.length > 0) {
    const passedProofs = proofs.filter(({ pass }) => pass).length;
    parts.push(`${rows.length > 0 ? '\n' : ''}## Proofs: ${passedProofs} of ${proofs.length} passed\n`);
    const cells = proofs.map(({ name, goal, observed, pass }) => [name, goal, observed, pass ? 'pass' : '**fail**']);
    parts.push(table(['proof', 'goal', 'observed', ''], cells));
  }
  return parts.join('\n');
}

function table(heads, rows) {
  const line = (cells) =>
    `| ${cells
      .map((cell) =>
        String(cell)
          .replace(/\s*\n\s*/g, ' ')
          .replaceAll('|', '\\|'),
      )
      .join(' | ')} |`;
  return [line(heads), line(heads.map(() => '---')), ...rows.map(line)].join('\n');
}
