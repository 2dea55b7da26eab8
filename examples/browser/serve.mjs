// Serves the example on the loopback interface: node examples/browser/serve.mjs MODEL-FOLDER [PORT]
// MODEL-FOLDER is what `dtrain export CHECKPOINT --format tfjs --out MODEL-FOLDER` wrote.
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const [modelFolder, port = '8080'] = process.argv.slice(2);
if (!modelFolder || !fs.existsSync(path.join(modelFolder, 'model.json'))) {
  console.error(
    'usage: node examples/browser/serve.mjs MODEL-FOLDER [PORT], the folder that dtrain export --format tfjs wrote',
  );
  process.exit(2);
}
const here = path.dirname(fileURLToPath(import.meta.url));
const tfjs = path.join(
  path.dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs/package.json')),
  'dist',
  'tf.min.js',
);
const TYPES = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.bin': 'application/octet-stream',
};

/** Only these files; no path of the request reaches the disk. */
const files = new Map([
  ['/', path.join(here, 'index.html')],
  ['/app.js', path.join(here, 'app.js')],
  ['/tf.min.js', tfjs],
  ...fs
    .readdirSync(modelFolder)
    .filter((name) => /^(model\.json|group1-shard\d+of\d+\.bin)$/.test(name))
    .map((name) => [`/model/${name}`, path.join(modelFolder, name)]),
]);

const server = http.createServer((request, response) => {
  const file = files.get(new URL(request.url, 'http://localhost').pathname);
  if (!file) return response.writeHead(404).end();
  response.writeHead(200, { 'content-type': TYPES[path.extname(file)] });
  fs.createReadStream(file).pipe(response);
});
server.listen(Number(port), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
