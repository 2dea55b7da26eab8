/**
 * `dtrain completion`: a script for the shell, and what it asks for.
 *
 * Idea: the script calls `dtrain completion candidates LINE`, so that it never has to be installed anew: commands, flags, keys of the
 * configuration and names of configurations come from the tables that the command line itself is made of.
 */
import fs from 'node:fs';
import { CONFIG_KEYS } from '../config/schema.js';
import { COMMANDS } from './commands.js';
import type { Context } from './context.js';
import type { Flags } from './flags.js';

const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `_dtrain() {
  local IFS=$'\\n' word="\${COMP_LINE:0:COMP_POINT}"
  COMPREPLY=($(compgen -W "$(dtrain completion candidates "$word" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
  [[ \${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _dtrain dtrain`,
  zsh: `#compdef dtrain
_dtrain() {
  local -a found
  found=("\${(@f)$(dtrain completion candidates "\${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
  compadd -Q -S '' -- $found || _files
}
compdef _dtrain dtrain`,
  fish: `complete -c dtrain -f -a '(dtrain completion candidates (commandline -cp) 2>/dev/null)'
complete -c dtrain -F -n 'not string match -q -- "-*" (commandline -ct)'`,
};

export async function completionCommand(flags: Flags, { console }: Context): Promise<number> {
  const shell = flags.text('SHELL') ?? '';
  if (shell === 'candidates') {
    for (const word of candidates(flags.text('LINE') ?? '')) console.out(word);
    return 0;
  }
  const script = SCRIPTS[shell];
  if (script === undefined)
    flags.fail(`SHELL: expected ${Object.keys(SCRIPTS).join(', ')}, got ${JSON.stringify(shell)}.`);
  console.out(script);
  return 0;
}

/** Exported for its test. `line`: what was typed so far, with the name of the program. */
export function candidates(line: string): string[] {
  const words = line.replace(/^\s*\S+\s*/, '').split(/\s+/);
  const last = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  const command = commandOf(before);
  if (['--config', '--format'].includes(before.at(-1) ?? '')) return matching(valuesOf(before.at(-1)!), last);
  const flags = Object.keys(command.flags).map((flag) => `--${flag}`);
  if (last.startsWith('-')) return matching(flags, last);
  const names = COMMANDS.map(({ name }) => name);
  const typed = before.join(' ');
  const next = names
    .filter((name) => typed === '' || name.startsWith(`${typed} `))
    .map((name) => name.slice(typed === '' ? 0 : typed.length + 1).split(' ')[0]!);
  if (before.length === 1 && names.some((name) => name.startsWith(`${typed} `))) return matching(next, last); // a group
  const keys = command.words.includes('overrides') ? CONFIG_KEYS.map(({ path }) => `${path}=`) : [];
  const key = CONFIG_KEYS.find(({ path }) => last.startsWith(`${path}=`));
  if (key)
    return matching(
      key.choices.map((choice) => `${key.path}=${choice}`),
      last,
    );
  return matching([...new Set(next), ...(last === '' ? flags : []), ...(last === '' ? [] : keys)], last);
}

function commandOf(words: readonly string[]) {
  const [first = '', second = ''] = words;
  const named = (name: string) => COMMANDS.find((command) => command.name === name);
  return named(`${first} ${second}`) ?? named(first) ?? COMMANDS[0]!;
}

function valuesOf(flag: string): readonly string[] {
  if (flag === '--format') return ['safetensors', 'tfjs', 'saved-model', 'onnx'];
  const files = fs.readdirSync(new URL('../../../configs/', import.meta.url));
  return files.filter((file) => file.endsWith('.yaml')).map((file) => file.slice(0, -'.yaml'.length));
}

function matching(words: readonly string[], beginning: string): string[] {
  return words.filter((word) => word.startsWith(beginning));
}
