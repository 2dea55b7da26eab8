/** The binary of Node that runs, where another machine can run it too. */
import { DtrainError, ExitCode } from '../core/errors.js';

export interface NodeBinary {
  readonly file: string;
  /** `20.20.2`. */
  readonly version: string;
}

/**
 * `variables` is process.config.variables: how that Node was built. One that a distribution linked with its own libraries (libnode, openssl, …)
 * does not run where those are not.
 * @throws DTRAIN_BUNDLE_NODE (exit 4).
 */
export function portableNode(file: string, version: string, variables: object): NodeBinary {
  const shared = Object.entries(variables).filter(([name, value]) => /^node_shared/.test(name) && value === true);
  const names = shared.map(([name]) => name.replace(/^node_shared_?/, '') || 'libnode').sort();
  if (names.length === 0) return { file, version: version.replace(/^v/, '') };
  const message =
    `--with-node: ${file} is linked with libraries of this machine (${names.join(', ')}) and would not start on another. ` +
    'Run dtrain with a Node from nodejs.org, or leave --with-node out and install Node there.';
  throw new DtrainError('DTRAIN_BUNDLE_NODE', ExitCode.environment, message);
}
