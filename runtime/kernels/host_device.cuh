// Types and arithmetic that a GPU, NVRTC and a plain C++ compiler share.
//
// Every kernel is a thin __global__ wrapper (.cu) around EDGEDET_HD functions of one element each (.cuh), so that the very
// same arithmetic is compiled for the host and held against its NumPy twin. No header of the CUDA toolkit or of the C++
// library is included: NVRTC on a device needs nothing beside these files. Compile with --fmad=false and without fast
// maths (g++: -ffp-contract=off): a product and a sum are then rounded on their own, as NumPy does.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define EDGEDET_HD __host__ __device__ __forceinline__
#define EDGEDET_DEVICE __device__ __forceinline__  // what uses atomics, barriers or warps
#else
#define EDGEDET_HD inline
#define EDGEDET_DEVICE inline
#endif

namespace edgedet {

using u8 = unsigned char;
using i8 = signed char;
using u16 = unsigned short;
using i32 = int;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

/// An IEEE binary16 number by its bits; cuda_fp16.h is not to be had everywhere NVRTC is.
struct Half {
  u16 bits;
};

struct Box {
  float x1, y1, x2, y2;
};

EDGEDET_HD u32 bits_of(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  return __builtin_bit_cast(u32, value);
#endif
}

EDGEDET_HD float float_of(u32 bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return __builtin_bit_cast(float, bits);
#endif
}

template <typename T> EDGEDET_HD T least(T a, T b) { return b < a ? b : a; }
template <typename T> EDGEDET_HD T greatest(T a, T b) { return a < b ? b : a; }
template <typename T> EDGEDET_HD T clamped(T value, T low, T high) { return least(greatest(value, low), high); }

EDGEDET_HD bool is_nan(float value) { return (bits_of(value) & 0x7fffffffu) > 0x7f800000u; }
EDGEDET_HD bool is_finite(float value) { return (bits_of(value) & 0x7f800000u) != 0x7f800000u; }

/// Rounds to the nearest binary16, ties to even, as NumPy's astype and the device's cvt.rn do.
EDGEDET_HD Half to_half(float value) {
#if defined(__CUDA_ARCH__)
  u16 bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return Half{bits};
#else
  const u32 sign = (bits_of(value) >> 16) & 0x8000u;
  const u32 magnitude = bits_of(value) & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return Half{static_cast<u16>(sign | 0x7e00u)};
  if (magnitude >= 0x47800000u) return Half{static_cast<u16>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {
    // Adding 0.5 leaves the subnormal's bits at the end of the significand, rounded by the addition itself.
    const float shifted = float_of(magnitude) + 0.5f;
    return Half{static_cast<u16>(sign | (bits_of(shifted) - 0x3f000000u))};
  }
  const u32 rounded = magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u);
  return Half{static_cast<u16>(sign | (rounded >> 13))};
#endif
}

EDGEDET_HD float to_float(Half half) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half.bits));
  return value;
#else
  const u32 sign = static_cast<u32>(half.bits & 0x8000u) << 16;
  const u32 magnitude = static_cast<u32>(half.bits & 0x7fffu) << 13;
  if (magnitude >= 0x0f800000u) return float_of(sign | (magnitude + 0x70000000u));
  if (magnitude >= 0x00800000u) return float_of(sign | (magnitude + 0x38000000u));
  const float small = float_of(magnitude + 0x38800000u) - float_of(0x38800000u);
  return float_of(sign | bits_of(small));
#endif
}

EDGEDET_HD float to_float(float value) { return value; }
EDGEDET_HD float to_float(u8 value) { return static_cast<float>(value); }

}  // namespace edgedet
