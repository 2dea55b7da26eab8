// A network of your own as a tf.LayersModel: the convnet of tfjs's MNIST example, for images of any size.
//
//   dtrain --config quickstart model.module=examples/models/convnet.mjs
//
// The function gets dtrain's tfjs and what the data set is like; the model ends in logits, without a softmax: dtrain's loss has it.
export function model({ tf, classes, height, width, channels }) {
  const decay = tf.regularizers.l2({ l2: 1e-4 });
  return tf.sequential({
    layers: [
      tf.layers.conv2d({ inputShape: [height, width, channels], filters: 8, kernelSize: 5, activation: 'relu' }),
      tf.layers.maxPooling2d({ poolSize: 2, strides: 2 }),
      tf.layers.conv2d({ filters: 16, kernelSize: 5, useBias: false, kernelRegularizer: decay }),
      tf.layers.batchNormalization(),
      tf.layers.activation({ activation: 'relu' }),
      tf.layers.maxPooling2d({ poolSize: 2, strides: 2 }),
      tf.layers.flatten(),
      tf.layers.dropout({ rate: 0.25 }),
      tf.layers.dense({ units: classes, kernelRegularizer: decay }),
    ],
  });
}
