// A training loop of your own: plain tfjs code, recorded once by compile(), then one call of TensorFlow a step.
//
//   node examples/compile.mjs
import { compile, openTfjs } from 'dtrain';

const tf = openTfjs();
const model = tf.sequential({
  layers: [
    tf.layers.dense({ inputShape: [2], units: 16, activation: 'tanh' }),
    tf.layers.dropout({ rate: 0.1 }),
    tf.layers.dense({ units: 1 }),
  ],
});
const optimizer = tf.train.adam(0.02);
const loss = (points, labels) => tf.losses.sigmoidCrossEntropy(labels, model.apply(points, { training: true }));
const step = compile((points, labels) => optimizer.minimize(() => loss(points, labels), true));

// Exclusive or: no straight line divides it.
const points = tf.tensor2d([-1, -1, -1, 1, 1, -1, 1, 1], [4, 2]);
const labels = tf.tensor2d([0, 1, 1, 0], [4, 1]);
for (let i = 1; i <= 300; i++) {
  const value = tf.tidy(() => step(points, labels).dataSync()[0]);
  if (i % 100 === 0) console.log(`step ${i}: loss ${value.toFixed(3)}`);
}
console.log('predicted:', [...model.predict(points).dataSync()].map((logit) => (logit > 0 ? 1 : 0)).join(' '));
