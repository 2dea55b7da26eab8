/**
 * `dtrain watch`: the report's page over HTTP, on the loopback interface only, drawn anew while the run goes on.
 * Answers GET of two paths and nothing else; a foreign Host is refused, so that no page of the web can read it by a name of its own.
 */
import http from 'node:http';
import { DtrainError, ExitCode } from '../core/errors.js';
import { readRun } from '../report/read-run.js';
import { dataText, reportPage } from '../report/report-page.js';

export interface WatchServer {
  readonly url: string;
  close(): Promise<void>;
}

/** Port 0: any free one. @throws DTRAIN_RUN_MISSING (exit 7), DTRAIN_PORT (exit 4) when the port is taken. */
export async function watchRun(folder: string, port: number): Promise<WatchServer> {
  readRun(folder); // a folder that is none of a run is told before a browser asks
  const server = http.createServer((request, response) => answer(folder, request, response));
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => reject(portError(port, cause)));
    server.listen(port, '127.0.0.1', resolve);
  });
  const { port: found } = server.address() as { port: number };
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return { url: `http://127.0.0.1:${found}/`, close };
}

function answer(folder: string, { url, method, headers }: http.IncomingMessage, response: http.ServerResponse): void {
  const isLocal = /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/.test(headers.host ?? '');
  const path = (url ?? '').split('?')[0];
  if (!isLocal || method !== 'GET' || (path !== '/' && path !== '/data.json')) {
    response.writeHead(isLocal ? 404 : 403).end();
    return;
  }
  try {
    const data = { runs: [readRun(folder)], scaling: [], benches: [] };
    const isPage = path === '/';
    const type = isPage ? 'text/html; charset=utf-8' : 'application/json';
    response.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' });
    response.end(isPage ? reportPage(data, true) : dataText(data));
  } catch (error) {
    response.writeHead(500, { 'content-type': 'text/plain' }).end((error as Error).message);
  }
}

function portError(port: number, cause: NodeJS.ErrnoException): DtrainError {
  const text = `--port: 127.0.0.1:${port}: expected a free port, got ${cause.code}. Choose another with --port, or leave it out.`;
  return new DtrainError('DTRAIN_PORT', ExitCode.environment, text, { cause });
}
