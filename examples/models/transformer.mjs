// A small vision transformer (Dosovitskiy et al., arXiv 2010.11929) as a plain function of tfjs tensors: its variables are whatever it closes
// over, its layers are tfjs's where they fit.
//
//   dtrain --config quickstart model.module=examples/models/transformer.mjs optimizer.name=adamw schedule.learningRate=0.001
const PATCH = 8;
const WIDTH = 32;
const HEADS = 2;
const BLOCKS = 2;
const DROPOUT = 0.1;

export function model({ tf, classes, height, width }) {
  const rows = Math.floor(height / PATCH);
  const columns = Math.floor(width / PATCH);
  const patches = tf.layers.conv2d({ filters: WIDTH, kernelSize: PATCH, strides: PATCH, name: 'patches' });
  const positions = tf.layers.embedding({ inputDim: rows * columns, outputDim: WIDTH, name: 'positions' });
  const blocks = Array.from({ length: BLOCKS }, (_, i) => block(tf, `block${i}`));
  const norm = tf.layers.layerNormalization({ name: 'norm' });
  const scale = tf.variable(tf.ones([WIDTH]), true, 'scale');
  const head = tf.layers.dense({ units: classes, name: 'head' });
  return (images, { training }) => {
    const places = tf.range(0, rows * columns, 1, 'int32').expandDims(0);
    let x = patches.apply(images).reshape([images.shape[0], rows * columns, WIDTH]);
    x = x.add(positions.apply(places));
    if (training) x = tf.dropout(x, DROPOUT);
    for (const apply of blocks) x = apply(x, training);
    return head.apply(norm.apply(x).mul(scale).mean(1));
  };
}

/** Attention and a network of two layers, each beside a shortcut and after a normalisation. */
function block(tf, name) {
  const dense = (part, units, options) => tf.layers.dense({ units, name: `${name}_${part}`, ...options });
  const [query, key, value, out] = ['query', 'key', 'value', 'out'].map((part) =>
    dense(part, WIDTH, { useBias: false }),
  );
  const [first, second] = [dense('first', 2 * WIDTH, { activation: 'relu' }), dense('second', WIDTH)];
  const [before, between] = ['before', 'between'].map((part) =>
    tf.layers.layerNormalization({ name: `${name}_${part}` }),
  );
  const heads = (x) => x.reshape([x.shape[0], x.shape[1], HEADS, WIDTH / HEADS]).transpose([0, 2, 1, 3]);
  const attention = (x) => {
    const scores = tf.matMul(heads(query.apply(x)), heads(key.apply(x)), false, true).div(Math.sqrt(WIDTH / HEADS));
    const mixed = tf.matMul(tf.softmax(scores), heads(value.apply(x)));
    return out.apply(mixed.transpose([0, 2, 1, 3]).reshape(x.shape));
  };
  return (x, training) => {
    const drop = (y) => (training ? tf.dropout(y, DROPOUT) : y);
    const attended = x.add(drop(attention(before.apply(x))));
    return attended.add(drop(second.apply(first.apply(between.apply(attended)))));
  };
}
