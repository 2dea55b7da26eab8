/** What a word that is neither a command nor KEY=VALUE was meant to be. */
import { nearestWord } from '../core/suggest.js';
import { namesAfter } from './command-line.js';

/** A command of a similar name, or `--config WORD` for what looks like a configuration. */
export function wordMeant(word: string): string | undefined {
  if (/\.ya?ml$|^resnet\d+|^quickstart$/i.test(word)) return `--config ${word}`;
  return nearestWord(word, namesAfter(''));
}
