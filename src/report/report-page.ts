/**
 * The page about runs: one HTML file with its data, styles and script inside; no request leaves it.
 *
 * Idea: the script draws from the data alone, so the page of `dtrain watch` is the same one, handed newer data.
 * Must stay true: text from a run (names, messages, classes) reaches the page as data, never as markup.
 */
import fs from 'node:fs';
import type { RunRecord } from './read-run.js';

/** What `bench scaling --json` prints, as far as the page shows it. */
export interface ScalingRecord {
  readonly config: string;
  readonly devices: string;
  readonly precision?: string;
  readonly points: readonly {
    readonly workers: number;
    readonly imagesPerSecond: number;
    readonly efficiency: number;
  }[];
}

/** What `bench step`, `bench data` or `bench all-reduce` prints under `--json`: shown as it is, in a table. */
export interface BenchRecord {
  readonly bench: string;
}

export interface ReportData {
  readonly runs: readonly RunRecord[];
  readonly scaling: readonly ScalingRecord[];
  readonly benches: readonly BenchRecord[];
}

/** `isLive`: the page asks for `data.json` beside it every two seconds. */
export function reportPage(data: ReportData, isLive = false): string {
  const asset = (name: string) => fs.readFileSync(new URL(`page/${name}`, import.meta.url), 'utf8');
  const title = data.runs.map(({ name }) => name).join(', ');
  const policy = `default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src ${isLive ? "'self'" : "'none'"}`;
  return `<!doctype html>
<html lang="en"${isLive ? ' data-live' : ''}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<link rel="icon" href="data:,">
<title>${escaped(title)} – dtrain</title>
<style>
${asset('page.css')}</style>
</head>
<body>
<noscript>This page draws its charts by a script inside it; it needs JavaScript.</noscript>
<main id="page"></main>
<script type="application/json" id="data">${dataText(data)}</script>
<script>
${asset('page.js')}</script>
</body>
</html>
`;
}

/** JSON that cannot end its script element. */
export function dataText(data: ReportData): string {
  return JSON.stringify(data).replace(/</g, '\\u003c');
}

function escaped(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;');
}
