/** The download, against a TLS server on the loopback. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { download, type RemoteFile } from '../src/data/download.js';
import { dataFault, temporaryFolder } from './support/data-fixtures.js';

/** A key known to both sides in place of a certificate. */
const psk = Buffer.from('0123456789abcdef0123456789abcdef', 'hex');
const CIPHERS = { ciphers: 'PSK', maxVersion: 'TLSv1.2' } as const;
const TLS = { ...CIPHERS, pskCallback: () => ({ psk, identity: 'test' }), checkServerIdentity: () => undefined };

async function serve(
  t: TestContext,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = https.createServer({ ...CIPHERS, pskCallback: () => psk }, answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const CONTENT = Buffer.alloc(1_000_000, 'CIFAR');
const remote = (url: string): RemoteFile => ({
  url,
  fileName: 'set.tar.gz',
  bytes: CONTENT.length,
  sha256: createHash('sha256').update(CONTENT).digest('hex'),
});

function target(t: TestContext) {
  const folder = path.join(temporaryFolder(t), 'new', 'folder');
  const said: string[] = [];
  return { folder, said, options: { folder, say: (line: string) => said.push(line), tls: TLS } };
}

const filesIn = (folder: string) => (fs.existsSync(folder) ? fs.readdirSync(folder) : []);

test('a whole file, with progress', async (t) => {
  const url = await serve(t, (_, response) => response.end(CONTENT));
  const { folder, said, options } = target(t);
  assert.deepEqual(await download(remote(url), options), { kind: 'file', path: path.join(folder, 'set.tar.gz') });
  assert.ok(fs.readFileSync(path.join(folder, 'set.tar.gz')).equals(CONTENT));
  assert.deepEqual(filesIn(folder), ['set.tar.gz']);
  assert.equal(said.at(-1), 'set.tar.gz: 1 of 1 MB');
  assert.ok(said.length <= 10);
});

test('a redirect within https', async (t) => {
  const url = await serve(t, ({ url: place }, response) => {
    if (place === '/there') response.end(CONTENT);
    else response.writeHead(302, { location: '/there' }).end();
  });
  assert.equal((await download(remote(`${url}/here`), target(t).options)).kind, 'file');
});

const UNREACHABLE: [what: string, answer: (response: ServerResponse) => void, reason: string][] = [
  ['HTTP status', (response) => response.writeHead(404).end(), 'HTTP status 404'],
  [
    'a redirect to http',
    (response) => response.writeHead(302, { location: 'http://127.0.0.1/x' }).end(),
    'redirected to http://, expected https',
  ],
  ['a redirect in a circle', (response) => response.writeHead(302, { location: '/' }).end(), 'more than 5 redirects'],
  [
    'another file in its place',
    (response) => response.writeHead(200, { 'content-length': 17 }).end('please log in now'),
    'expected 1,000,000 bytes, got an offer of 17',
  ],
];

for (const [what, answer, reason] of UNREACHABLE) {
  test(`unreachable: ${what}`, async (t) => {
    const url = await serve(t, (_, response) => answer(response));
    const { folder, options } = target(t);
    assert.deepEqual(await download(remote(url), options), { kind: 'unreachable', reason });
    assert.deepEqual(filesIn(folder), []);
  });
}

test('unreachable: nobody listens', async (t) => {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const reason = `connect ECONNREFUSED 127.0.0.1:${port}`;
  const got = await download(remote(`https://127.0.0.1:${port}`), target(t).options);
  assert.deepEqual(got, { kind: 'unreachable', reason });
});

test('unreachable: a host that takes the connection and says nothing', async (t) => {
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const got = await download(remote(url), { ...target(t).options, connectSeconds: 0.2 });
  assert.deepEqual(got, { kind: 'unreachable', reason: 'no connection within 0.2 s' });
});

test('unreachable: the connection breaks in the middle', async (t) => {
  const url = await serve(t, (_, response) => {
    response.writeHead(200, { 'content-length': CONTENT.length });
    response.write(CONTENT.subarray(0, 600_000), () => response.destroy());
  });
  const { folder, options } = target(t);
  const got = await download(remote(url), options);
  assert.equal(got.kind, 'unreachable');
  assert.match('reason' in got ? got.reason : '', /^the connection broke after [01] of 1 MB \(aborted\)$/);
  assert.deepEqual(filesIn(folder), []);
});

test('unreachable: the host falls silent before or in the answer', async (t) => {
  const options = { ...target(t).options, silenceSeconds: 0.2 };
  const before = await serve(t, () => {});
  assert.deepEqual(await download(remote(before), options), { kind: 'unreachable', reason: 'no data for 0.2 s' });
  const amid = await serve(t, (_, response) => {
    response.writeHead(200, { 'content-length': CONTENT.length });
    response.write('some');
  });
  const reason = 'the connection broke after 0 of 1 MB (no data for 0.2 s)';
  assert.deepEqual(await download(remote(amid), options), { kind: 'unreachable', reason });
});

const CURE = 'Nothing was kept. Try again later, or fetch the file yourself and set data.path.';
const WRONG: [what: string, body: Buffer, got: (file: RemoteFile) => string][] = [
  ['too few bytes', CONTENT.subarray(1), () => 'expected 1,000,000 bytes, got 999,999'],
  ['too many bytes', Buffer.concat([CONTENT, CONTENT]), () => 'expected 1,000,000 bytes, got more'],
  [
    'other bytes',
    Buffer.alloc(1_000_000, 'CIFAX'),
    ({ sha256 }) =>
      `expected SHA-256 ${sha256}, got ${createHash('sha256').update(Buffer.alloc(1_000_000, 'CIFAX')).digest('hex')}`,
  ],
];

for (const [what, body, got] of WRONG) {
  test(`an error: ${what}`, async (t) => {
    const url = await serve(t, (_, response) => {
      response.write(body.subarray(0, 10)); // chunked: no length is declared
      response.end(body.subarray(10));
    });
    const { folder, options } = target(t);
    const message = `${url}: ${got(remote(url))}. ${CURE}`;
    await assert.rejects(download(remote(url), options), dataFault('DTRAIN_DATA_CORRUPT', message));
    assert.deepEqual(filesIn(folder), []);
  });
}

test('an error: the folder cannot be written', async (t) => {
  const url = await serve(t, (_, response) => response.end(CONTENT));
  const file = path.join(temporaryFolder(t), 'occupied');
  fs.writeFileSync(file, '');
  const cure = 'Free space or make the folder writable, or set DTRAIN_HOME to another cache folder.';
  await assert.rejects(download(remote(url), { folder: file, say: () => {}, tls: TLS }), {
    code: 'DTRAIN_STORAGE',
    exitCode: 7,
    message: `${path.join(file, 'set.tar.gz')}: cannot be written (EEXIST). ${cure}`,
  });
});

test('the next download removes what a killed one left, and not what a living one writes', async (t) => {
  const url = await serve(t, (_, response) => response.end(CONTENT));
  const { folder, options } = target(t);
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, 'set.tar.gz.tmp-999999999'), 'dead');
  fs.writeFileSync(path.join(folder, `set.tar.gz.tmp-${process.ppid}`), 'alive');
  await download(remote(url), options);
  assert.deepEqual(filesIn(folder).sort(), ['set.tar.gz', `set.tar.gz.tmp-${process.ppid}`]);
});
