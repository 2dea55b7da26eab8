// tfjs-core's conformance tests that the eager binding does not pass, each with its reason. All of them are on tfjs-node's own list
// (dist/run_tests.js of tfjs-node-gpu 4.22); scripts/test-tfjs.mjs holds that, and that every one of them still fails.

const NO_KERNEL = 'tfjs-node-gpu has no kernel of it';
const PADDING = "tfjs-node-gpu's kernel refuses padding by numbers";
const SHAPES = "tfjs-node-gpu's kernel hands over the updates in a shape that TensorFlow refuses";
const STRINGS = 'TensorFlow compares no strings by order';
const NCHW = "tfjs-node-gpu's kernel refuses channels first";
const DTYPE = 'TensorFlow has no such operation for this type';

const explicit = (names) => names.map((name) => [name, PADDING]);
const suites = (names) => names.map((name) => [name, NO_KERNEL]);

/** [part of the test's full name, reason] */
export const EXCLUSIONS = [
  ...suites(['bitwiseAnd', 'maxPoolWithArgmax', 'denseBincount', 'image.transform', 'raggedGather', 'raggedRange']),
  ...suites([
    'raggedTensorToTensor',
    'searchSorted',
    'upperBound',
    'lowerBound',
    'sparseFillEmptyRows',
    'sparseReshape',
  ]),
  ...suites(['sparseSegmentMean', 'sparseSegmentSum', 'stringNGrams', 'stringSplit', 'stringToHashBucketFast']),
  ['scatterND test-tensorflow {} should work for 2d', SHAPES],
  ['scatterND test-tensorflow {} should work for simple 1d', SHAPES],
  ['scatterND test-tensorflow {} should work for multiple 1d', SHAPES],
  ['scatterND test-tensorflow {} should sum the duplicated indices', SHAPES],
  ['scatterND test-tensorflow {} should work for tensorLike input', SHAPES],
  ...['maxPool', 'avgPool'].flatMap((pool) =>
    explicit([
      `${pool} test-tensorflow {} x=[2,2,3] f=[2,2] s=3 p=1 default dimRoundingMode`,
      `${pool} test-tensorflow {} x=[2,2,3] f=[1,1] s=2 p=1 dimRoundingMode=floor`,
      `${pool} test-tensorflow {} x=[2,2,3] f=[2,2] s=3 p=1 dimRoundingMode=floor`,
      `${pool} test-tensorflow {} x=[2,2,3] f=[2,2] s=3 p=1 dimRoundingMode=round`,
      `${pool} test-tensorflow {} x=[2,2,3] f=[2,2] s=3 p=1 dimRoundingMode=ceil`,
      `${pool} test-tensorflow {} x=[3,3,1] f=[3,3] s=1 p=explicit`,
      `${pool}3d test-tensorflow {} x=[1,2,2,2,1] f=[2,2,2] s=1 p=1 roundingMode=floor`,
    ]),
  ),
  ...['max', 'avg'].flatMap((pool) =>
    explicit([
      `pool test-tensorflow {} ${pool} x=[3,3,1] f=[3,3] s=1 d=1 p=explicit`,
      `pool test-tensorflow {} ${pool} x=[3,3,1] f=[3,3] s=3 d=1 p=explicit defualt dimRoundingMode`,
      `pool test-tensorflow {} ${pool} x=[3,3,1] f=[3,3] s=3 d=1 p=explicit dimRoundingMode=floor`,
      `pool test-tensorflow {} ${pool} x=[3,3,1] f=[3,3] s=3 d=1 p=explicit dimRoundingMode=round`,
      `pool test-tensorflow {} ${pool} x=[3,3,1] f=[3,3] s=3 d=1 p=explicit dimRoundingMode=ceil`,
      `pool test-tensorflow {} ${pool} x=[2,2,3] f=[1,1] s=2 p=1 fractional outputs default rounding`,
    ]),
  ),
  ...explicit([
    'avgPool test-tensorflow {} gradient x=[3,3,1] f=[3,3] s=1 p=explicit',
    'avgPool3d test-tensorflow {} x=[1,1,1,1,1] f=[2,2,2] s=1 p=2',
    'maxPoolBackprop test-tensorflow {} gradient x=[3,3,1] f=3 s=1 p=explicit',
    'conv2dTranspose test-tensorflow {} input=3x3x1,d2=1,f=2,s=2,p=explicit',
    'conv2dTranspose test-tensorflow {} gradient input=[1,3,3,1] f=[2,2,2,1] s=[1,1] p=explicit',
  ]),
  [
    'avgPool3d test-tensorflow {} x=[1,1,1,1,1] f=[1,1,3] s=1 p=valid',
    'the window is larger than the image: TensorFlow refuses what the test expects to be empty (tensorflow#58758)',
  ],
  [
    'conv2dTranspose test-tensorflow {} input=8x8x8,output=4x4x8,f=8,s=1,inDepth=8,p=same vec4',
    'the test asks for an output that these strides do not give; TensorFlow refuses it',
  ],
  ...['basic', 'im2row', 'batch'].map((name) => [`fused conv2d test-tensorflow {} ${name} in NCHW`, NCHW]),
  ['diag test-tensorflow {} bool', DTYPE],
  ['leakyrelu test-tensorflow {} int32', DTYPE],
  ['step kernel test-tensorflow {} with int32 tensor', DTYPE],
  ...['greaterEqual', 'greater', 'lessEqual', 'less'].map((name) => [
    `${name} test-tensorflow {} should support string comparison`,
    STRINGS,
  ]),
  ['unique test-tensorflow {} 1d tensor with NaN and Infinity', 'TensorFlow takes every NaN as another value'],
  ...['basic', 'does not propagate NaNs', 'accepts a tensor-like object'].map((name) => [
    `sign test-tensorflow {} ${name}`,
    'TensorFlow keeps NaN, tfjs makes it 0',
  ]),
  [
    'einsum test-tensorflow {} 2d matrix calculate trace: duplicate axes not implemented yet',
    'TensorFlow can do what the test expects to be refused',
  ],
  [
    'einsum test-tensorflow {} nonexistent dimension throws error',
    'TensorFlow can do what the test expects to be refused',
  ],
  [
    'multinomial test-tensorflow {} creates the same data given the same seed',
    "TensorFlow's generator goes on from call to call, whatever the seed",
  ],
  [
    'tan test-tensorflow {} numbers exceed float32 precision',
    'the last bit of the tangent of a number near a pole differs',
  ],
];
