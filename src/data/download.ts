/**
 * The download of a pinned file: https only, size and SHA-256 checked, under its final name only when whole.
 *
 * Idea: that there is no network is an answer and not an error, because the caller has another way; wrong bytes are an error.
 */
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import path from 'node:path';
import { dataError, digits, firstLine } from './data-error.js';
import { TemporaryFile } from './temporary-file.js';

export interface RemoteFile {
  readonly url: string;
  readonly fileName: string;
  readonly bytes: number;
  readonly sha256: string;
}

export type Download =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'unreachable'; readonly reason: string };

export interface DownloadOptions {
  readonly folder: string;
  readonly say: (line: string) => void;
  /** For tests and private certificates. */
  readonly tls?: https.RequestOptions;
  readonly connectSeconds?: number;
  readonly silenceSeconds?: number;
}

/** A host that does not connect within this counts as unreachable. */
const CONNECT_SECONDS = 5;
/** A connection that is silent for this long counts as broken. */
const SILENCE_SECONDS = 30;
const MAX_REDIRECTS = 5;

/** Throws DTRAIN_DATA_CORRUPT for bytes that are not the file's, DTRAIN_STORAGE when the disk does not take them. */
export async function download(file: RemoteFile, options: DownloadOptions): Promise<Download> {
  let response: IncomingMessage;
  try {
    response = await follow(file.url, options);
  } catch (error) {
    return { kind: 'unreachable', reason: firstLine(error) };
  }
  const declared = response.headers['content-length'];
  if (declared !== undefined && Number(declared) !== file.bytes) {
    response.destroy();
    const sizes = `expected ${digits(file.bytes)} bytes, got an offer of ${digits(Number(declared))}`;
    return { kind: 'unreachable', reason: sizes };
  }
  return store(file, response, options);
}

/** The response with the file, after redirects. */
async function follow(url: string, options: DownloadOptions): Promise<IncomingMessage> {
  let target = new URL(url);
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
    if (target.protocol !== 'https:') throw new Error(`redirected to ${target.protocol}//, expected https`);
    const response = await get(target, options);
    const { statusCode = 0, headers } = response;
    if (statusCode === 200) return response;
    response.destroy();
    if (statusCode < 300 || statusCode > 399 || headers.location === undefined)
      throw new Error(`HTTP status ${statusCode}`);
    target = new URL(headers.location, target);
  }
  throw new Error(`more than ${MAX_REDIRECTS} redirects`);
}

function get(target: URL, options: DownloadOptions): Promise<IncomingMessage> {
  const { tls, connectSeconds = CONNECT_SECONDS, silenceSeconds = SILENCE_SECONDS } = options;
  return new Promise((resolve, reject) => {
    const request = https.get(target, { agent: false, ...tls });
    const late = new Error(`no connection within ${connectSeconds} s`);
    const deadline = setTimeout(() => request.destroy(late), connectSeconds * 1000);
    const silent = new Error(`no data for ${silenceSeconds} s`);
    request.once('socket', (socket) => socket.once('secureConnect', () => clearTimeout(deadline)));
    let answer: IncomingMessage | undefined;
    request.setTimeout(silenceSeconds * 1000, () => (answer ?? request).destroy(silent));
    request.once('response', (response) => {
      answer = response;
      resolve(response);
    });
    request.once('error', (error) => {
      clearTimeout(deadline);
      reject(error);
    });
  });
}

/** Streams to disk and hash at once; the file appears when both fit. */
async function store(file: RemoteFile, response: IncomingMessage, { folder, say }: DownloadOptions): Promise<Download> {
  const target = path.join(folder, file.fileName);
  using temporary = new TemporaryFile(target);
  const hash = createHash('sha256');
  let bytes = 0;
  let tenths = 0;
  const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  for (;;) {
    let next: IteratorResult<Buffer>;
    try {
      next = await chunks.next();
    } catch (error) {
      const reason = `the connection broke after ${megabytes(bytes)} of ${megabytes(file.bytes)} MB (${firstLine(error)})`;
      return { kind: 'unreachable', reason };
    }
    if (next.done) break;
    bytes += next.value.length;
    if (bytes > file.bytes) break;
    hash.update(next.value);
    temporary.write(next.value);
    if (Math.floor((10 * bytes) / file.bytes) > tenths) {
      tenths = Math.floor((10 * bytes) / file.bytes);
      say(`${file.fileName}: ${megabytes(bytes)} of ${megabytes(file.bytes)} MB`);
    }
  }
  response.destroy();
  check(file, bytes, hash.digest('hex'));
  temporary.commit();
  return { kind: 'file', path: target };
}

function check(file: RemoteFile, bytes: number, sha256: string): void {
  const cure = 'Nothing was kept. Try again later, or fetch the file yourself and set data.path.';
  if (bytes !== file.bytes) {
    const got = bytes > file.bytes ? 'more' : digits(bytes);
    throw dataError('DTRAIN_DATA_CORRUPT', `${file.url}: expected ${digits(file.bytes)} bytes, got ${got}. ${cure}`);
  }
  if (sha256 !== file.sha256) {
    throw dataError('DTRAIN_DATA_CORRUPT', `${file.url}: expected SHA-256 ${file.sha256}, got ${sha256}. ${cure}`);
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
