// What the kernels use of CUDA, declared for clang, so that clang-tidy reads them without NVIDIA's toolkit.
//
// Nothing is defined: clang checks syntax, types and flow, and makes no code. Where clang's own intrinsics exist under
// another name they are not used, since only the names that nvcc and NVRTC know count here.
#pragma once

#define __host__ __attribute__((host))
#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __forceinline__ inline __attribute__((always_inline))

struct uint3 {
  unsigned x, y, z;
};

extern const __device__ uint3 threadIdx, blockIdx, blockDim, gridDim;

__device__ void __syncthreads();
__device__ int __syncthreads_count(int predicate);
__device__ int __syncthreads_or(int predicate);
__device__ void __syncwarp(unsigned mask = 0xffffffffu);
__device__ void __threadfence();
__device__ unsigned __ballot_sync(unsigned mask, int predicate);
__device__ int __any_sync(unsigned mask, int predicate);
template <typename T> __device__ T __shfl_sync(unsigned mask, T value, int lane, int width = 32);
template <typename T> __device__ T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32);
template <typename T> __device__ T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32);
template <typename T> __device__ T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32);

template <typename T> __device__ T atomicAdd(T* at, T value);
template <typename T> __device__ T atomicMax(T* at, T value);
template <typename T> __device__ T atomicMin(T* at, T value);
template <typename T> __device__ T atomicOr(T* at, T value);
template <typename T> __device__ T atomicExch(T* at, T value);
template <typename T> __device__ T atomicCAS(T* at, T expected, T value);

__device__ int __popc(unsigned value);
__device__ int __popcll(unsigned long long value);
__device__ int __clz(int value);
__device__ int __ffs(int value);
__device__ int __ffsll(long long value);
__device__ unsigned __float_as_uint(float value);
__device__ float __uint_as_float(unsigned bits);

extern "C" {
__host__ __device__ float expf(float value);
__host__ __device__ float powf(float base, float exponent);
__host__ __device__ float tanhf(float value);
}
