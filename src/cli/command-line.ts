/**
 * From the words of the command line to an exit code.
 *
 * Idea: yargs is built from the table of commands, splits the words and notices what is unknown; its complaints are turned into ours.
 * Must stay true: never throws and never ends the process; a failure is reported once, with its exit code.
 */
import yargs, { type Argv } from 'yargs';
import { type DtrainError, ExitCode } from '../core/errors.js';
import { nearestWord } from '../core/suggest.js';
import { COMMANDS, type Command } from './commands.js';
import type { Context } from './context.js';
import { Flags, usageError } from './flags.js';
import { reportError } from './report-error.js';

/** Runs the command that `words` name. `version` is that of the package. */
export async function runCommandLine(words: readonly string[], context: Context, version: string): Promise<number> {
  const line = new CommandLine(words, context);
  let help = '';
  try {
    await line.parser(version).parseAsync(withoutValues(words), {}, (_error, _values, output) => {
      help = output;
    });
    if (help !== '') context.console.out(help);
    return line.exitCode;
  } catch (error) {
    return reportError(error, context);
  }
}

/** A flag that may stand without its value does not take the word after it for one when that is a flag or KEY=VALUE. */
function withoutValues(words: readonly string[]): string[] {
  const isAlone = (next: string | undefined) => next === undefined || next.startsWith('-') || /^[\w.]+=/.test(next);
  return words.map((word, i) => (word === '--resume' && isAlone(words[i + 1]) ? '--resume=' : word));
}

/** What usage errors need to know of a command, or of a group of commands. */
type Usage = Pick<Command, 'name' | 'usage' | 'flags'> & Partial<Pick<Command, 'words'>>;

class CommandLine {
  exitCode: number = ExitCode.ok;
  readonly #words: readonly string[];
  readonly #context: Context;
  /** The innermost one that yargs has come to. */
  #current: Usage = COMMANDS[0]!;

  constructor(words: readonly string[], context: Context) {
    this.#words = words;
    this.#context = context;
  }

  parser(version: string): Argv {
    const parser = yargs()
      .scriptName('dtrain')
      .locale('en')
      .version(version)
      .usage(usageText(COMMANDS[0]!))
      .wrap(80)
      .exitProcess(false)
      .strict()
      .parserConfiguration({
        'boolean-negation': false,
        'camel-case-expansion': false,
        'dot-notation': false,
        'parse-numbers': false,
        'parse-positional-numbers': false,
        'short-option-groups': false,
      })
      .fail((complaint: string | null, error: Error | undefined) => {
        if (error !== undefined && error.name !== 'YError') throw error;
        throw this.#usageError(complaint ?? error?.message ?? '');
      })
      .epilogue('Begin with: dtrain --config quickstart');
    const singles = COMMANDS.filter(({ name }) => !name.includes(' '));
    this.#add(parser, COMMANDS[0]!, '$0', false);
    for (const command of singles) this.#add(parser, command, command.name, command.describe);
    for (const [group, describe] of Object.entries(GROUPS)) this.#addGroup(parser, group, describe);
    return parser;
  }

  /** `describe` false: not in the list of commands. */
  #add(parser: Argv, command: Command, name: string, describe: string | false): void {
    parser.command(
      `${name} ${command.words}`.trim(),
      describe as string, // the types of yargs leave out that false hides a command
      (inner) => {
        this.#current = command;
        for (const [flag, { value, isOptional = false, describe }] of Object.entries(command.flags)) {
          const description = value === undefined ? describe : `${value}: ${describe}`;
          inner.option(
            flag,
            value === undefined
              ? { type: 'boolean', describe }
              : { type: 'string', requiresArg: !isOptional, describe: description },
          );
        }
        return describe === false ? inner : inner.usage(usageText(command));
      },
      async (values) => {
        this.#refuseLeftOvers(values, command);
        this.exitCode = await command.run(new Flags(values, command.usage), this.#context);
      },
    );
  }

  #addGroup(parser: Argv, group: string, describe: string): void {
    const commands = COMMANDS.filter(({ name }) => name.startsWith(`${group} `));
    const names = commands.map(({ name }) => name.slice(group.length + 1));
    const usage = `dtrain ${group} ${names.join('|')} [...]`;
    parser.command(
      group,
      describe,
      (inner) => {
        this.#current = { name: group, usage, flags: {} };
        for (const [i, command] of commands.entries()) this.#add(inner, command, names[i]!, command.describe);
        return inner.usage(usageText({ usage, describe }));
      },
      () => {
        throw usageError(`${group}: expected ${names.join(', ')}, got nothing.`, usage);
      },
    );
  }

  /** What yargs lets pass: words after `--`, and a value for a switch. */
  #refuseLeftOvers(values: Readonly<Record<string, unknown>>, { name, usage, flags }: Command): void {
    const words = (values['_'] as readonly unknown[]).map(String);
    const own = name.split(' ');
    const more = words.slice(words[0] === own[0] ? own.length : 0);
    if (more.length > 0) throw usageError(`unknown word ${JSON.stringify(more[0])} after --.`, usage);
    const switches = Object.keys(flags).filter((flag) => flags[flag]!.value === undefined);
    const given = switches.find((flag) => this.#words.some((word) => word.startsWith(`--${flag}=`)));
    if (given !== undefined) throw usageError(`--${given} takes no value.`, usage);
  }

  /** A complaint of yargs in our words. */
  #usageError(complaint: string): DtrainError {
    const { usage } = this.#current;
    const unknown = /^Unknown arguments?: (.*)$/s.exec(complaint)?.[1]?.split(', ') ?? [];
    const words = unknown.filter((name) => this.#typedFlag(name) === undefined);
    // Without the right word, whether its flags are right cannot be said.
    if (words.length > 0) return usageError(words.map((word) => this.#unknownWord(word)).join('\n'), usage);
    if (unknown.length > 0) return usageError(unknown.map((name) => this.#unknownFlag(name)).join('\n'), usage);
    const flag = /^Not enough arguments following: (.*)$/s.exec(complaint)?.[1];
    if (flag !== undefined) return usageError(`--${flag}: expected a value, got nothing.`, usage);
    if (complaint.startsWith('Not enough non-option arguments')) {
      const given = Number(/got (\d+)/.exec(complaint)?.[1] ?? 0);
      const names = this.#current.words?.match(/<[A-Z]+/g)?.map((name) => name.slice(1)) ?? [];
      return usageError(`${names[given] ?? 'CHECKPOINT'} is missing.`, usage);
    }
    return usageError(`${complaint}.`, usage);
  }

  /** As typed, without a value: `--gpu`. Undefined where `name` is a word. */
  #typedFlag(name: string): string | undefined {
    const flags = this.#words.filter((word) => word.startsWith('-')).map((word) => word.replace(/=.*$/s, ''));
    return flags.find((flag) => flag.replace(/^-+/, '') === name);
  }

  #unknownWord(word: string): string {
    const hint = nearestWord(word, namesAfter(this.#current.name));
    return `unknown word ${JSON.stringify(word)}${hint === undefined ? '.' : ` (did you mean ${hint}?)`}`;
  }

  #unknownFlag(name: string): string {
    const flag = this.#typedFlag(name);
    if (name.includes('.')) return `unknown flag ${flag}: a key of the configuration has no dashes: ${name}=VALUE`;
    const hint = nearestWord(name, [...Object.keys(this.#current.flags), 'help', 'version']);
    return `unknown flag ${flag}${hint === undefined ? '.' : ` (did you mean --${hint}?)`}`;
  }
}

function usageText({ usage, describe }: Pick<Command, 'usage' | 'describe'>): string {
  return `Usage: ${usage}\n\n${describe}`;
}

const GROUPS: Readonly<Record<string, string>> = {
  find: 'tries learning rates, or batches, and names the best',
  bench: 'times steps, the all-reduce, numbers of workers, and the images on their way',
  config: 'prints the resolved configuration, and what a configuration may hold',
};

/** The words that may stand after `group`; for a command without inner ones, none. */
export function namesAfter(group: string): string[] {
  const prefix = group === '' ? '' : `${group} `;
  const names = COMMANDS.filter(({ name }) => name.startsWith(prefix)).map(
    ({ name }) => name.slice(prefix.length).split(' ')[0]!,
  );
  return [...new Set(names)];
}
