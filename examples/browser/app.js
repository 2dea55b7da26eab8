/**
 * Runs an export of `dtrain export --format tfjs` in the page: an image in, the probability of each class out.
 *
 * The image is scaled until it covers the network's input, its centre is cut out, and its pixels (0 to 255) go in as they are: the
 * exported graph normalises them itself. Everything is local; nothing is sent anywhere.
 */
const byId = (id) => document.getElementById(id);
const status = byId('status');

const tf = globalThis.tf;
const model = await tf.loadGraphModel('model/model.json').catch((error) => {
  status.textContent = `The network could not be loaded: ${error.message}`;
  throw error;
});
const { classes, imageSize } = await (await fetch('model/model.json')).json().then((json) => json.userDefinedMetadata);
status.textContent = `Ready: ${classes.length} classes, ${imageSize.join(' by ')} pixels.`;

/** Probability of each class, in the order of `classes` (or, with 'logits', what softmax makes them of). `pixels`: ImageData of the network's size. */
export function classify(pixels, output = 'probabilities') {
  return tf.tidy(() => {
    const images = tf.browser.fromPixels(pixels).toFloat().expandDims(0);
    return [...model.execute({ images }, output).dataSync()];
  });
}

async function show(file) {
  const bitmap = await createImageBitmap(file).catch(() => undefined);
  if (!bitmap) {
    status.textContent = `${file.name} is no image that this browser reads.`;
    return;
  }
  const [height, width] = imageSize;
  const canvas = byId('seen');
  Object.assign(canvas, { width, height, hidden: false });
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  const probabilities = classify(context.getImageData(0, 0, width, height));
  const order = [...classes.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  byId('result').replaceChildren(...order.slice(0, 10).map((i) => row(classes[i], probabilities[i])));
  status.textContent = `${file.name}: ${classes[order[0]]}`;
}

function row(name, probability) {
  const tr = document.createElement('tr');
  const meter = Object.assign(document.createElement('meter'), { value: probability, max: 1, title: name });
  for (const content of [name, meter, `${(100 * probability).toFixed(1)} %`]) {
    const td = document.createElement('td');
    td.append(content);
    tr.append(td);
  }
  return tr;
}

byId('file').addEventListener('change', ({ target }) => target.files[0] && void show(target.files[0]));
const drop = byId('drop');
drop.addEventListener('dragover', (event) => {
  event.preventDefault();
  drop.classList.add('over');
});
drop.addEventListener('dragleave', () => drop.classList.remove('over'));
drop.addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  if (event.dataTransfer.files[0]) void show(event.dataTransfer.files[0]);
});

globalThis.example = { classify, classes, imageSize };
