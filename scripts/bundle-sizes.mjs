// node scripts/bundle-sizes.mjs DIR: how much each folder of libraries takes in the bundle DIR, packed and unpacked. A block that two files
// share counts for each by its share of the bytes.
import fs from 'node:fs';
import path from 'node:path';

const folder = process.argv[2];
if (folder === undefined) throw new Error('usage: node scripts/bundle-sizes.mjs DIR');
const { program, library } = JSON.parse(fs.readFileSync(path.join(folder, 'bundle.json'), 'utf8'));
const total = library.files.reduce((sum, { bytes }) => sum + bytes, 0);
const packedOf = new Map();
let begins = 0;
for (const { path: file, bytes } of library.files) {
  let packed = 0;
  for (const part of library.parts) {
    for (const [i, block] of part.blocks.entries()) {
      const from = part.from + i * library.blockBytes;
      const to = Math.min(from + library.blockBytes, total);
      const shared = Math.min(to, begins + bytes) - Math.max(from, begins);
      if (shared > 0) packed += (block * shared) / (to - from);
    }
  }
  packedOf.set(file, packed);
  begins += bytes;
}
const line = (name, bytes, packed) =>
  console.log(`| ${name} | ${(bytes / 1e6).toFixed(1)} | ${(packed / 1e6).toFixed(1)} |`);
const sum = (parts) => parts.reduce((all, { bytes }) => all + bytes, 0);
console.log('| file | MB | MB in the bundle |\n|---|---|---|');
for (const { path: file, bytes } of library.files) if (bytes > 1e5) line(file, bytes, packedOf.get(file));
line('all libraries and licences', total, sum(library.parts));
console.log(
  `\n${library.parts.length} library parts, ${program.parts.length} program parts of together ${(sum(program.parts) / 1e6).toFixed(1)} MB`,
);
