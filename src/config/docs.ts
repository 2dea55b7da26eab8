/**
 * docs/configuration.md, made of the schema. `npm run docs` writes it; a test fails when the file is not what this makes.
 */
import { printValue } from './print-config.js';
import { CONFIG_KEYS, CONFIG_SECTIONS, type KeyFacts } from './schema.js';

const INTRODUCTION = `# Configuration

<!-- Made by \`npm run docs\` from src/config/schema.ts. Edit there. -->

A run is described by one YAML file and changed by \`KEY=VALUE\` words on the command line:

\`\`\`
dtrain --config resnet20 schedule.learningRate=0.2 data.augment.cutout=8
\`\`\`

- A file includes nothing and needs nothing: a key that it leaves out has its default. The override of a key wins over the file, and the last
  override of a key over the ones before.
- A key that is not listed here is an error, as is a value that does not fit. All mistakes are told at once, with line and column.
- Keys that the chosen schedule or optimizer does not use are allowed and ignored, so that \`schedule.name=cosine\` works on any file.
- The value of an override is YAML: \`train.maxSteps=null\`, \`schedule.milestones=[60, 80]\`, \`data.augment={crop: 0, flip: false}\`. A path
  needs no quotes.
- YAML is read strictly: numbers in decimal, \`true\` and \`false\` and no other words for them; no anchors, aliases, tags or merge keys; UTF-8,
  at most 256 KiB.
- \`dtrain config print\` prints the resolved configuration, \`dtrain config schema\` the JSON Schema for editors.
`;

/** The whole page. */
export function configurationPage(): string {
  const sections = CONFIG_SECTIONS.map(({ path, description }) => {
    const keys = CONFIG_KEYS.filter((facts) => facts.path.slice(0, facts.path.lastIndexOf('.')) === path);
    return `## ${path}\n\n${description}\n\n| key | default | values | meaning |\n|---|---|---|---|\n${keys.map(row).join('\n')}\n`;
  });
  return [INTRODUCTION, ...sections].join('\n');
}

function row({ path, default: value, expected, unit, description }: KeyFacts): string {
  const values = unit === undefined ? expected : `${expected}; ${unit}`;
  return `| \`${path}\` | \`${printValue(value)}\` | ${cell(values)} | ${cell(description)} |`;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('*', '\\*');
}
