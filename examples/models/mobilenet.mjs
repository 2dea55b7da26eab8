// A small network after MobileNet (Howard et al., arXiv 1704.04861) as a tf.LayersModel: depthwise convolutions, each followed by a 1x1 one.
//
//   dtrain --config quickstart model.module=examples/models/mobilenet.mjs
export function model({ tf, classes, height, width, channels }) {
  const images = tf.input({ shape: [height, width, channels] });
  const normalized = (x) =>
    tf.layers.reLU({ maxValue: 6 }).apply(tf.layers.batchNormalization({ momentum: 0.9 }).apply(x));
  const separable = (x, filters, strides) => {
    const depthwise = tf.layers.depthwiseConv2d({ kernelSize: 3, strides, padding: 'same', useBias: false });
    const pointwise = tf.layers.conv2d({ filters, kernelSize: 1, useBias: false });
    return normalized(pointwise.apply(normalized(depthwise.apply(x))));
  };
  let x = normalized(
    tf.layers.conv2d({ filters: 8, kernelSize: 3, strides: 2, padding: 'same', useBias: false }).apply(images),
  );
  for (const [filters, strides] of [
    [16, 1],
    [32, 2],
    [32, 1],
    [64, 2],
  ]) {
    x = separable(x, filters, strides);
  }
  const logits = tf.layers.dense({ units: classes }).apply(tf.layers.globalAveragePooling2d({}).apply(x));
  return tf.model({ inputs: images, outputs: logits });
}
