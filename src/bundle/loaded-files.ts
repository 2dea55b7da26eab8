/**
 * Which files of an installed library go into a bundle: those that a run loads.
 *
 * Idea: what is known to be of no use is left out, with the reason; what is not known goes in, so that a new version of a wheel makes a
 * bundle larger, never incomplete. How each was found out: docs/results/bundle-gpu.md.
 */

/** Files of the CUDA wheels that no run of dtrain opens. */
export const LEFT_OUT: readonly (readonly [files: RegExp, why: string])[] = [
  [/^cublas\/lib\/libnvblas\./, 'puts cuBLAS in the place of a BLAS for the CPU; nothing names it'],
  [/^cuda_cupti\//, "TensorFlow's own profiler; dtrain has another"],
  [/^cuda_nvcc\/nvvm\/(include|lib64)\//, 'the compiler of CUDA C++; XLA has its own, and takes ptxas and libdevice'],
  [/^cuda_nvrtc\/lib\/[^/]*\.alt\.so\./, 'a second build of NVRTC; nothing names it'],
  [/^cuda_runtime\/lib\/[^/]*\.a$/, 'for linkers'],
  [/^cudnn\/lib\/libcudnn_adv\./, 'recurrent networks, CTC and attention: opened by the first call of one of those'],
  [/^cudnn\/lib\/libcudnn_ext\./, 'causal convolutions and graph networks: TensorFlow calls nothing of it'],
  [/^cufft\/lib\/libcufftw\./, "FFTW's interface to cuFFT; nothing names it"],
  [/^curand\//, 'nothing names it; TensorFlow draws random numbers in kernels of its own'],
  [/^cusolver\/lib\/libcusolverMg\./, 'cuSOLVER on several GPUs; nothing names it'],
  [/^nccl\/lib\/libnccl_device\./, 'for programs that call NCCL in kernels of their own'],
  [/\/__init__\.py$|\/__pycache__\//, "Python's"],
];

/** `file` is a path of the installation's manifest. */
export function isLoaded(file: string): boolean {
  const inNvidia = /^nvidia\/(.*)$/.exec(file)?.[1];
  return inNvidia === undefined || !LEFT_OUT.some(([files]) => files.test(inNvidia));
}
