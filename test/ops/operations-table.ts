/** The table of recorded operations in docs/models.md, from what the tests found. */

import { OP_CASES } from './cases.js';
import type { CheckedCase } from './check-case.js';

const BEGIN = '<!-- operations: written by npm run test:ops -->';
const END = '<!-- end of operations -->';

export function operationsTable(checked: ReadonlyMap<string, CheckedCase>): { replaceIn(text: string): string } {
  const rows = OP_CASES.map(({ name, refused }) => {
    const { kernels, hasGradient } = checked.get(name)!;
    const recorded = refused ? 'no: its shape depends on values' : 'yes';
    return `| \`${name}\` | ${recorded} | ${hasGradient ? 'yes' : ''} | ${kernels.filter((kernel) => !ALWAYS.includes(kernel)).join(', ')} |`;
  });
  const table = ['| tfjs | recorded | gradient | kernels |', '| --- | --- | --- | --- |', ...rows].join('\n');
  return {
    replaceIn(text) {
      const [before, rest] = text.split(BEGIN);
      const after = rest?.split(END)[1];
      if (before === undefined || after === undefined) throw new Error(`docs/models.md: expected ${BEGIN} … ${END}`);
      return `${before}${BEGIN}\n\n${table}\n\n${END}${after}`;
    },
  };
}

/** Of every case with a gradient: they make the loss. */
const ALWAYS = ['SpreadTo', 'Mean', 'Square', 'Cast', 'Add', 'Identity', 'Multiply', 'Reshape'];
