/**
 * Draws the page from the JSON in it; under `dtrain watch`, again whenever newer data came. Plain DOM and SVG, no library.
 *
 * Every chart is one focusable picture: the arrow keys (or the pointer) move a line over it, whose values are read out below; the numbers
 * themselves are in a table under "Figures".
 */

const COLOURS = 6;
const PHASES = ['feed', 'compute', 'reduce', 'update', 'report'];
const colour = (index) => `var(--c${index % COLOURS})`;

/** Of an axis: a whole percent where that is what it is. */
const percentTick = (value) => `${Number((100 * value).toPrecision(4))} %`;
const percent = (value) => (value === null || value === undefined ? '–' : `${(100 * value).toFixed(1)} %`);
const count = (value) => Math.round(value).toLocaleString('en-US');
const short = (value) => (Math.abs(value) >= 1000 ? count(value) : String(Number(value.toPrecision(3))));
/** `4:05`, `1:02:03`, as the terminal has it. */
const duration = (seconds) => {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  const two = (value) => String(value).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
};

/** An element: attributes by name, text and elements as children. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function table(head, rows, attributes = {}) {
  const cells = (values, name) =>
    element('tr', {}, ...values.map((value) => (value instanceof Node ? value : element(name, {}, String(value)))));
  const body = element('tbody', {}, ...rows.map((row) => cells(row, 'td')));
  const made = element('table', attributes, element('thead', {}, cells(head, 'th')), body);
  return element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': head.join(', ') }, made);
}

// ——— charts ———

/** About `wanted` round numbers that cover [from, to]. */
function ticks(from, to, wanted) {
  const span = to - from || Math.abs(to) || 1;
  const power = 10 ** Math.floor(Math.log10(span / wanted));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => span / size <= wanted) ?? 10 * power;
  const found = [];
  for (let at = Math.ceil(from / step - 1e-9) * step; at <= to + step * 1e-6; at += step)
    found.push(Number(at.toPrecision(12)));
  return found;
}

const [LEFT, RIGHT, TOP, BOTTOM, HEIGHT] = [48, 10, 8, 34, 230];

/**
 * series: [{name, colour, dashed, points: [[x, y]], marks: [x]}]. Marks are checkpoints, small triangles on the axis.
 * stacked: each series is drawn on top of the ones before; all have the same xs. tick: as format, for the axis. whole: x counts things.
 */
function chart({
  id,
  title,
  xLabel,
  format = short,
  tick = format,
  whole = false,
  series,
  zero = false,
  top = null,
  stacked = false,
}) {
  const shown = series.filter(({ points }) => points.length > 0);
  const panel = element('section', { class: 'panel', id, 'aria-labelledby': `${id}-title` });
  panel.append(element('h3', { id: `${id}-title` }, title));
  if (shown.length === 0) {
    panel.append(element('p', { class: 'soft' }, 'Nothing yet.'));
    return panel;
  }
  const width = Math.max(
    280,
    Math.min(
      640,
      Math.floor((document.documentElement.clientWidth - 60) / (document.documentElement.clientWidth > 900 ? 2 : 1)),
    ),
  );
  const layers = stacked ? stack(shown) : shown.map(({ points }) => points.map(([x, y]) => [x, zero ? 0 : y, y]));
  const xs = [...new Set(shown.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b);
  const all = layers.flat().flatMap(([, low, high]) => (stacked || zero ? [0, high] : [low, high]));
  const [yLow, yHigh] = [zero || stacked ? 0 : Math.min(...all), top ?? Math.max(...all)];
  const pad = top === null ? (yHigh - yLow || Math.abs(yHigh) || 1) * 0.06 : 0;
  const [y0, y1] = [zero || stacked ? 0 : yLow - pad, yHigh + pad];
  const [x0, x1] = [0, Math.max(xs.at(-1), 1e-9)];
  const px = (x) => LEFT + ((x - x0) / (x1 - x0)) * (width - LEFT - RIGHT);
  const py = (y) => TOP + (1 - (y - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);

  const svg = shape('svg', {
    viewBox: `0 0 ${width} ${HEIGHT}`,
    tabindex: '0',
    role: 'img',
    'aria-label': `${title}. Arrow keys read values.`,
  });
  for (const y of ticks(y0, y1, 5)) {
    svg.append(shape('line', { class: 'axis', x1: LEFT, x2: width - RIGHT, y1: py(y), y2: py(y) }));
    svg.append(shape('text', { x: LEFT - 6, y: py(y) + 4, 'text-anchor': 'end' }, tick(y)));
  }
  for (const x of ticks(x0, x1, width > 450 ? 8 : 5)) {
    if (whole && !Number.isInteger(x)) continue;
    svg.append(shape('text', { x: px(x), y: HEIGHT - BOTTOM + 16, 'text-anchor': 'middle' }, short(x)));
  }
  svg.append(shape('text', { x: width - RIGHT, y: HEIGHT - 4, 'text-anchor': 'end' }, xLabel));
  shown.forEach((one, i) => {
    const points = layers[i];
    const line = points.map(([x, , y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`);
    if (stacked) {
      const back = points.map(([x, low]) => `${px(x).toFixed(1)},${py(low).toFixed(1)}`).reverse();
      svg.append(shape('polygon', { points: [...line, ...back].join(' '), fill: one.colour, 'fill-opacity': '0.75' }));
    } else {
      const dash = one.dashed ? { 'stroke-dasharray': '2 4' } : {};
      svg.append(
        shape('polyline', {
          points: line.join(' '),
          fill: 'none',
          stroke: one.colour,
          'stroke-width': '2',
          'stroke-linejoin': 'round',
          ...dash,
        }),
      );
      if (points.length === 1)
        svg.append(shape('circle', { cx: px(points[0][0]), cy: py(points[0][2]), r: '3.5', fill: one.colour }));
    }
    for (const x of one.marks ?? []) {
      if (x < x0 || x > x1) continue;
      const [cx, cy] = [px(x), HEIGHT - BOTTOM];
      const mark = shape('path', {
        d: `M${cx - 4},${cy + 5}L${cx + 4},${cy + 5}L${cx},${cy - 2}Z`,
        fill: one.colour,
        class: 'checkpoint',
      });
      mark.append(shape('title', {}, `checkpoint at epoch ${short(x)}`));
      svg.append(mark);
    }
  });
  const cursor = shape('line', {
    y1: TOP,
    y2: HEIGHT - BOTTOM,
    stroke: 'var(--text)',
    'stroke-dasharray': '3 3',
    visibility: 'hidden',
  });
  svg.append(cursor);

  const readOut = element('output', { 'aria-live': 'polite' });
  const read = (index) => {
    const x = xs[index];
    cursor.setAttribute('visibility', 'visible');
    cursor.setAttribute('x1', px(x));
    cursor.setAttribute('x2', px(x));
    const values = shown.flatMap(({ name, points }) => {
      const point = points.find(([at]) => at === x);
      return point ? [`${name} ${format(point[1])}`] : [];
    });
    readOut.textContent = `${xLabel} ${short(x)}: ${values.join(', ')}`;
  };
  let at = -1;
  svg.addEventListener('keydown', (event) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: xs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    at = Math.max(0, Math.min(xs.length - 1, to));
    read(at);
  });
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const x = x0 + ((((event.clientX - box.left) / box.width) * width - LEFT) / (width - LEFT - RIGHT)) * (x1 - x0);
    at = xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0);
    read(at);
  });

  const legend = element(
    'div',
    { class: 'legend' },
    ...shown.map(({ name, colour: own, dashed }) =>
      element('span', {}, element('i', { style: `border-color:${own}`, class: dashed ? 'dashed' : 'solid' }), name),
    ),
  );
  const rows = xs.map((x) => [x, ...shown.map(({ points }) => points.find(([of]) => of === x)?.[1] ?? '')]);
  const figures = element('details', {}, element('summary', {}, 'Figures'));
  figures.addEventListener('toggle', () => {
    if (figures.open && !figures.querySelector('table'))
      figures.append(table([xLabel, ...shown.map(({ name }) => name)], rows));
  });
  panel.append(legend, svg, readOut, figures);
  return panel;
}

/** [x, low, high] of each series, one on the other. */
function stack(series) {
  const heights = new Map();
  return series.map(({ points }) =>
    points.map(([x, y]) => {
      const low = heights.get(x) ?? 0;
      heights.set(x, low + y);
      return [x, low, low + y];
    }),
  );
}

// ——— sections ———

function lastOf(list) {
  return list[list.length - 1];
}

function stateOf({ end, error }) {
  if (error) return element('span', { class: 'bad' }, `failed: ${error.message}`);
  return end ? element('span', { class: 'good' }, 'finished') : element('span', {}, 'running, or stopped');
}

function bestOf({ evaluations }) {
  return evaluations.length === 0 ? null : Math.max(...evaluations.map(({ testAccuracy }) => testAccuracy));
}

function facts(run) {
  const step = lastOf(run.steps);
  const evaluation = lastOf(run.evaluations);
  const numbers = [
    ['test accuracy', percent(evaluation?.testAccuracy)],
    ['best', percent(bestOf(run))],
    ['loss, train', step ? short(step.loss) : '–'],
    ['epoch', step ? short(step.epoch) : '–'],
    ['step', step ? count(step.step) : '–'],
    ['images/s', count(run.end?.imagesPerSecond ?? step?.imagesPerSecond ?? 0)],
    run.end ? ['time', duration(run.end.wallSeconds)] : ['left', timeLeft(run)],
    ['parameters', count(run.run.parameters)],
  ];
  return element(
    'div',
    { class: 'facts' },
    ...numbers.map(([name, value]) =>
      element('div', { class: 'fact' }, element('span', { class: 'soft' }, name), element('b', {}, value)),
    ),
  );
}

/** At the speed of the last steps. */
function timeLeft({ run, steps, error }) {
  const step = lastOf(steps);
  if (error || !step || !(step.imagesPerSecond > 0)) return '–';
  return duration(((run.totalSteps - step.step) * run.globalBatch) / step.imagesPerSecond);
}

/** `2 CPU workers`, `4 GPUs` */
function devicesText({ workers, devices }) {
  const noun = devices[0]?.includes('GPU') ? 'GPU' : 'CPU worker';
  return `${workers} ${noun}${workers === 1 ? '' : 's'}`;
}

function comparison(runs) {
  const rows = runs.map((run) => {
    const { run: start, end } = run;
    const name = element('td', { class: 'word' }, run.name);
    const state = element('td', { class: 'word' }, stateOf(run));
    return [
      name,
      percent(lastOf(run.evaluations)?.testAccuracy),
      percent(bestOf(run)),
      end?.steps ?? lastOf(run.steps)?.step ?? 0,
      start.workers,
      start.globalBatch,
      count(end?.imagesPerSecond ?? 0),
      end ? duration(end.wallSeconds) : '–',
      state,
    ];
  });
  return table(['run', 'test accuracy', 'best', 'steps', 'workers', 'batch', 'images/s', 'time', 'state'], rows, {
    id: 'comparison',
  });
}

function curves(runs) {
  const name = (run, what) => (runs.length === 1 ? what : `${run.name}, ${what}`);
  const ofSteps = (value) => (run) => run.steps.map((step) => [step.epoch, value(step)]);
  const epochOf = (run, step) => (step * run.run.globalBatch) / epochImages(run);
  const marks = (run) => run.checkpoints.map(({ step }) => epochOf(run, step));
  const test = (key) => (run) => run.evaluations.map((evaluation) => [epochOf(run, evaluation.step), evaluation[key]]);
  const pair = (key, trainOf) =>
    runs.flatMap((run, i) => [
      { name: name(run, 'test'), colour: colour(i), points: test(key)(run), marks: marks(run) },
      { name: name(run, 'train'), colour: colour(i), dashed: true, points: ofSteps(trainOf)(run) },
    ]);
  const single = (what, value) =>
    runs.map((run, i) => ({ name: name(run, what), colour: colour(i), points: ofSteps(value)(run) }));
  return element(
    'div',
    { class: 'grid' },
    chart({
      id: 'accuracy',
      title: 'Accuracy (triangles: checkpoints)',
      xLabel: 'epoch',
      format: percent,
      tick: percentTick,
      series: pair('testAccuracy', (step) => step.trainAccuracy),
    }),
    chart({ id: 'loss', title: 'Loss, in nats', xLabel: 'epoch', series: pair('testLoss', (step) => step.loss) }),
    chart({
      id: 'rate',
      title: 'Learning rate',
      xLabel: 'epoch',
      zero: true,
      series: single('learning rate', (step) => step.learningRate),
    }),
    chart({
      id: 'speed',
      title: 'Images per second',
      xLabel: 'epoch',
      zero: true,
      series: single('images/s', (step) => step.imagesPerSecond),
    }),
  );
}

/** Images of an epoch, from a step event: step · batch / epoch; of no use to the fourth digit, so environment.json is asked first. */
function epochImages({ environment, steps, run }) {
  const known = environment?.data?.trainImages;
  const step = lastOf(steps);
  return known ?? (step && step.epoch > 0 ? (step.step * run.globalBatch) / step.epoch : 1);
}

function phases(run) {
  const series = PHASES.map((phase, i) => ({
    name: phase,
    colour: colour(i),
    points: run.steps.map((step) => [step.epoch, 1000 * step.seconds[phase]]),
  }));
  return chart({ id: 'phases', title: 'Phases of a step, in milliseconds', xLabel: 'epoch', series, stacked: true });
}

/** Speed by workers, with what as many times the first point would be; and the share of that which was reached. */
function scalingCharts(scaling) {
  const name = ({ config, devices, precision }) => [config, devices, precision].filter(Boolean).join(', ');
  const ideal = ({ points }) => {
    const [first] = points;
    return points.map(({ workers }) => [workers, (first.imagesPerSecond / first.efficiency / first.workers) * workers]);
  };
  const speed = scaling.flatMap((bench, i) => [
    {
      name: name(bench),
      colour: colour(i),
      points: bench.points.map(({ workers, imagesPerSecond }) => [workers, imagesPerSecond]),
    },
    { name: `${name(bench)}, if perfect`, colour: colour(i), dashed: true, points: ideal(bench) },
  ]);
  const efficiency = scaling.map((bench, i) => ({
    name: name(bench),
    colour: colour(i),
    points: bench.points.map(({ workers, efficiency: share }) => [workers, share]),
  }));
  const axis = { xLabel: 'workers', whole: true, zero: true };
  return [
    chart({ id: 'scaling-speed', title: 'Scaling: images per second by workers', ...axis, series: speed }),
    chart({
      id: 'scaling',
      title: 'Scaling: efficiency by workers',
      format: percent,
      tick: percentTick,
      top: Math.max(1.1, ...efficiency.flatMap(({ points }) => points.map(([, share]) => share))),
      ...axis,
      series: efficiency,
    }),
  ];
}

function benchTable(benches) {
  const rows = benches.map((bench) => {
    const { config, devices, precision, workers, ranks, globalBatch, bytes, imagesPerSecond, seconds } = bench;
    const what = [config, devices, precision, globalBatch && `batch ${globalBatch}`, bytes && `${count(bytes)} bytes`];
    const speed =
      imagesPerSecond === undefined
        ? `${short(1000 * seconds.median)} ms a round`
        : `${count(imagesPerSecond.median ?? imagesPerSecond)} images/s`;
    const words = [bench.bench, what.filter(Boolean).join(', ')].map((text) => element('td', { class: 'word' }, text));
    return [...words, workers ?? ranks ?? '', speed];
  });
  return table(['bench', 'of', 'workers', 'median'], rows, { id: 'benches' });
}

function perClass({ classes, perClass: accuracies }) {
  const rows = classes.map((name, i) => {
    const bar = element('span', { class: 'bar' });
    bar.style.setProperty('--share', accuracies[i] ?? 0);
    return [element('td', { class: 'word' }, name), element('td', { class: 'wide' }, bar), percent(accuracies[i])];
  });
  const made = table(['class', '', 'accuracy'], rows, { class: 'bars' });
  return element('section', { class: 'panel', id: 'per-class' }, element('h3', {}, 'Accuracy of each class'), made);
}

/** Rows: labels; columns: what the network said. */
function confusionTable({ classes, confusion }) {
  if (classes.length > 40)
    return element(
      'p',
      { class: 'soft' },
      `A matrix of ${classes.length} classes is too large to read here: dtrain eval names the largest confusions.`,
    );
  const head = ['', ...classes].map((name) => element('th', { scope: 'col' }, name));
  const rows = confusion.map((row, label) => {
    const sum = row.reduce((a, b) => a + b, 0) || 1;
    const cells = row.map((images, given) => {
      const strength = Math.sqrt(images / sum);
      const title = `${classes[label]} taken for ${classes[given]}: ${images}`;
      const ink = strength > 0.6 ? 'color:var(--back);' : '';
      return element(
        'td',
        { style: `${ink}background:rgba(var(--heat),${strength.toFixed(3)})`, title },
        images === 0 ? '' : String(images),
      );
    });
    return element('tr', {}, element('th', { scope: 'row' }, classes[label]), ...cells);
  });
  const made = element(
    'table',
    { class: 'matrix', id: 'confusion' },
    element('thead', {}, element('tr', {}, ...head)),
    element('tbody', {}, ...rows),
  );
  return element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Confusion matrix' }, made);
}

function calibrationChart({ calibration }) {
  const points = calibration.bins
    .filter(({ images }) => images > 0)
    .map(({ confidence, accuracy }) => [confidence, accuracy]);
  const series = [
    { name: 'this network', colour: colour(0), points },
    { name: 'ideal', colour: 'var(--soft)', dashed: true, points: points.map(([x]) => [x, x]) },
  ];
  const title = `Calibration: accuracy by probability (error ${percent(calibration.error)})`;
  const shares = { format: percent, tick: percentTick, zero: true, top: 1 };
  return chart({ id: 'calibration', title, xLabel: 'probability', ...shares, series });
}

function mistakes({ classes, mostWrong }) {
  const figures = mostWrong.map(({ label, predicted, confidence, png }) => {
    const alt = `${classes[label]} that was taken for ${classes[predicted]}`;
    return element(
      'figure',
      {},
      element('img', { src: `data:image/png;base64,${png}`, alt }),
      element(
        'figcaption',
        {},
        element('b', {}, classes[label]),
        `, taken for ${classes[predicted]} (${percent(confidence)})`,
      ),
    );
  });
  return element('div', { class: 'wrong', id: 'mistakes' }, ...figures);
}

function testSection(run) {
  const { evaluation } = run;
  if (!evaluation) return [element('p', { class: 'soft' }, 'No evaluation yet.')];
  const top5 = evaluation.classes.length > 5 ? `, top-5 ${percent(evaluation.top5Accuracy)}` : '';
  const line = `${percent(evaluation.testAccuracy)} of ${count(evaluation.images)} images${top5}, loss ${evaluation.testLoss.toFixed(4)}, step ${evaluation.step}`;
  return [
    element('p', {}, line),
    element('div', { class: 'grid' }, perClass(evaluation), calibrationChart(evaluation)),
    element('h2', {}, 'Confusion matrix'),
    element('p', { class: 'soft' }, 'Rows: what it is. Columns: what the network said.'),
    confusionTable(evaluation),
    element('h2', {}, 'Most confidently wrong'),
    evaluation.mostWrong.length > 0 ? mistakes(evaluation) : element('p', { class: 'soft' }, 'No mistake at all.'),
  ];
}

function configuration(runs) {
  const keys = [...new Set(runs.flatMap(({ config }) => Object.keys(config)))];
  const rows = keys.map((key) => [
    key,
    ...runs.map(({ config }) => element('td', { class: 'word' }, config[key] ?? '')),
  ]);
  const made = table(['key', ...runs.map(({ name }) => name)], rows, { id: 'configuration', class: 'words' });
  keys.forEach((key, i) => {
    const differs = new Set(runs.map(({ config }) => config[key])).size > 1;
    if (differs) made.querySelectorAll('tbody tr')[i].classList.add('differs');
  });
  return made;
}

function environment(run) {
  const flat = (value, prefix) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.entries(value).flatMap(([key, inner]) => flat(inner, prefix ? `${prefix}.${key}` : key))
      : [[prefix, Array.isArray(value) ? value.join(', ') : String(value)]];
  const rows = flat(run.environment ?? {}, '').map(([key, value]) => [key, element('td', { class: 'word' }, value)]);
  return table(['fact', 'value'], rows, { id: 'environment', class: 'words' });
}

// ——— the page ———

let chosen = 0;

function draw(given) {
  const { runs, scaling, benches } = given;
  const run = runs[Math.min(chosen, runs.length - 1)];
  const page = document.getElementById('page');
  const parts = [element('h1', {}, runs.map(({ name }) => name).join(' · '))];
  const { model, data } = run.environment ?? {};
  const words = [model?.name, data?.source, devicesText(run.run), `dtrain ${run.run.version}`].filter(Boolean);
  parts.push(element('p', { class: 'soft' }, `${words.join(' · ')} · `, stateOf(run)));
  parts.push(facts(run));
  if (runs.length > 1) parts.push(element('h2', {}, 'Runs'), comparison(runs));
  parts.push(element('h2', {}, 'Training'), curves(runs));
  if (runs.length > 1) {
    const select = element(
      'select',
      { id: 'choice' },
      ...runs.map(({ name }, i) => element('option', { value: i }, name)),
    );
    select.value = String(chosen);
    select.addEventListener('change', () => {
      chosen = Number(select.value);
      draw(given);
      document.getElementById('choice').focus();
    });
    parts.push(element('h2', {}, element('label', {}, 'One run: ', select)));
  }
  parts.push(element('h2', {}, 'Where the time goes'));
  parts.push(element('div', { class: 'grid' }, phases(run), ...(scaling.length > 0 ? scalingCharts(scaling) : [])));
  if (benches.length > 0) parts.push(element('h2', {}, 'Benches'), benchTable(benches));
  parts.push(element('h2', {}, 'Test images'), ...testSection(run));
  parts.push(element('h2', {}, 'Configuration'), configuration(runs));
  parts.push(element('h2', {}, 'Environment'), environment(run));
  const open = [...page.querySelectorAll('details[open]')].map((details) => details.parentElement.id);
  page.replaceChildren(...parts);
  for (const id of open) {
    const details = document.querySelector(`#${id} > details`);
    if (details) details.open = true;
  }
}

let data = JSON.parse(document.getElementById('data').textContent);
draw(data);
let drawnWidth = document.documentElement.clientWidth;
addEventListener('resize', () => {
  if (document.documentElement.clientWidth === drawnWidth) return;
  drawnWidth = document.documentElement.clientWidth;
  draw(data);
});

if (document.documentElement.hasAttribute('data-live')) {
  let last = '';
  setInterval(async () => {
    try {
      const text = await (await fetch('data.json')).text();
      if (text === last) return;
      last = text;
      data = JSON.parse(text);
      const [top, focused] = [scrollY, document.activeElement?.closest('[id]')?.id];
      draw(data);
      scrollTo(0, top);
      if (focused) document.querySelector(`#${focused} svg, #${focused}`)?.focus({ preventScroll: true });
    } catch {
      document.title = `${document.title.replace(/ \(.*\)$/, '')} (dtrain watch has ended)`;
    }
  }, 2000);
}
