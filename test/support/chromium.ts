/**
 * A headless Chromium for tests, driven over a pipe (Chrome DevTools Protocol, one JSON a NUL byte): no package, no port.
 * Owns the process and its profile until disposed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';

type Parameters = Readonly<Record<string, unknown>>;
type Result = Record<string, unknown>;

export class Chromium {
  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #waiting = new Map<number, { resolve(result: Result): void; reject(error: Error): void }>();
  readonly #listeners: ((method: string, parameters: Result, session: string | undefined) => void)[] = [];
  #nextId = 1;

  constructor(binary = process.env['DTRAIN_CHROMIUM'] ?? 'chromium') {
    this.#profile = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-chromium-'));
    const flags = [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--enable-unsafe-swiftshader',
      '--disable-dev-shm-usage',
      '--no-first-run',
    ];
    this.#process = spawn(
      binary,
      [...flags, '--disable-background-networking', '--disable-component-update', '--hide-scrollbars']
        .concat(['--force-color-profile=srgb', '--remote-debugging-pipe', `--user-data-dir=${this.#profile}`])
        .concat(['about:blank']),
      { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] },
    );
    let rest = '';
    (this.#process.stdio[4] as Readable).setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split('\0');
      rest = parts.pop()!;
      for (const part of parts) this.#receive(JSON.parse(part) as Result);
    });
    const gone = (error: Error) => {
      for (const { reject } of this.#waiting.values()) reject(error);
    };
    this.#process.once('error', gone);
    this.#process.once('exit', () => gone(new Error('chromium ended')));
  }

  send(method: string, parameters: Parameters = {}, sessionId?: string): Promise<Result> {
    const id = this.#nextId++;
    const message = { id, method, params: parameters, ...(sessionId && { sessionId }) };
    (this.#process.stdio[3] as Writable).write(`${JSON.stringify(message)}\0`);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  listen(listener: (method: string, parameters: Result, session: string | undefined) => void): void {
    this.#listeners.push(listener);
  }

  /** A new page of that many CSS pixels. */
  async open(url: string, { width = 1200, height = 900, dark = false, scale = 1 } = {}): Promise<Page> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, sessionId as string);
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page.send(`${domain}.enable`);
    await page.send('Emulation.setDeviceMetricsOverride', {
      width,
      height,
      deviceScaleFactor: scale,
      mobile: width < 600,
    });
    const features = [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }];
    await page.send('Emulation.setEmulatedMedia', { features });
    await page.go(url);
    return page;
  }

  async close(): Promise<void> {
    const exited = new Promise((resolve) => this.#process.once('exit', resolve));
    void this.send('Browser.close').catch(() => undefined);
    await exited;
    fs.rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  #receive(message: Result): void {
    const waiting = this.#waiting.get(message['id'] as number);
    if (waiting) {
      this.#waiting.delete(message['id'] as number);
      if (message['error']) waiting.reject(new Error(JSON.stringify(message['error'])));
      else waiting.resolve(message['result'] as Result);
      return;
    }
    for (const listener of this.#listeners)
      listener(message['method'] as string, message['params'] as Result, message['sessionId'] as string | undefined);
  }
}

export class Page {
  /** Errors and warnings of the page's console, and exceptions that nobody caught. */
  readonly complaints: string[] = [];
  /** URLs that were asked for; data: and blob: are no requests. */
  readonly requests: string[] = [];
  readonly #browser: Chromium;
  readonly #session: string;
  #loaded: (() => void) | undefined;

  constructor(browser: Chromium, session: string) {
    this.#browser = browser;
    this.#session = session;
    browser.listen((method, parameters, of) => {
      if (of === session) this.#notice(method, parameters);
    });
  }

  send(method: string, parameters: Parameters = {}): Promise<Result> {
    return this.#browser.send(method, parameters, this.#session);
  }

  async go(url: string): Promise<void> {
    const loaded = new Promise<void>((resolve) => {
      this.#loaded = resolve;
    });
    await this.send('Page.navigate', { url });
    await loaded;
  }

  /** The value of an expression; of a promise, what it resolves to. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = (await this.send('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    })) as { result: { value: T }; exceptionDetails?: { text: string; exception?: { description?: string } } };
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  async press(key: string): Promise<void> {
    const codes: Record<string, number> = { Tab: 9, Enter: 13, ArrowRight: 39, ArrowLeft: 37, Home: 36, End: 35 };
    const event = { key, code: key, windowsVirtualKeyCode: codes[key] ?? 0, ...(key === 'Enter' && { text: '\r' }) };
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', ...event });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', ...event });
  }

  /** A PNG of the whole page. */
  async screenshot(file: string): Promise<void> {
    const { data } = await this.send('Page.captureScreenshot', { captureBeyondViewport: true });
    fs.writeFileSync(file, Buffer.from(data as string, 'base64'));
  }

  #notice(method: string, parameters: Result): void {
    if (method === 'Page.loadEventFired') this.#loaded?.();
    if (method === 'Runtime.exceptionThrown') this.complaints.push(JSON.stringify(parameters));
    if (method === 'Runtime.consoleAPICalled' && ['error', 'warning', 'assert'].includes(parameters['type'] as string))
      this.complaints.push(JSON.stringify(parameters['args']));
    const entry = parameters['entry'] as { source: string } | undefined; // `rendering` speaks of the machine's graphics, not of the page
    if (method === 'Log.entryAdded' && entry?.source !== 'rendering') this.complaints.push(JSON.stringify(entry));
    if (method === 'Network.requestWillBeSent') {
      const { url } = parameters['request'] as { url: string };
      if (!/^(data|blob):/.test(url)) this.requests.push(url);
    }
  }
}
