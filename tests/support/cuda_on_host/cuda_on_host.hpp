// Compiles CUDA kernels with a plain C++ compiler and runs them, one thread of a block after the other, barriers included.
//
// Each thread of a block is a fiber (ucontext). It runs until it ends or reaches a barrier; when all threads of its warp
// or block have, they go on. This proves arithmetic, indexing and what is needed of barriers, not timing. The order of
// blocks and of the threads in them can be shuffled: answers that change with it hang on an order that no GPU promises.
// Restrictions: shared memory is static (no extern __shared__), warp functions take all threads of a warp, blocks are
// one-dimensional in what warps are concerned.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local
#define __constant__ static const
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __restrict__

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

namespace cuda_on_host {

constexpr unsigned kWarp = 32;
constexpr std::size_t kStack = 256 * 1024;

enum class State { runnable, at_warp_barrier, at_block_barrier, done };

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  State state = State::done;
  dim3 thread;
  unsigned lane = 0, warp = 0;
};

struct Block {
  std::vector<Fiber> fibers;
  ucontext_t scheduler;
  Fiber* current = nullptr;
  const std::function<void()>* body = nullptr;
  std::vector<std::uint64_t> slots;  // what each thread hands to the others of its warp
  std::mt19937 shuffle;
  bool shuffled = false;
#if defined(__SANITIZE_ADDRESS__)
  void* scheduler_fake = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_size = 0;
#endif
};

inline thread_local Block block;
inline thread_local dim3 block_index, block_size, grid_size;
inline unsigned order_seed = 0;

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "cuda_on_host: %s\n", what);
  std::abort();
}

inline void leave(State state) {
  Fiber& fiber = *block.current;
  fiber.state = state;
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(state == State::done ? nullptr : &fake, block.scheduler_stack, block.scheduler_size);
#endif
  swapcontext(&fiber.context, &block.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

inline void enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_size);
#endif
  (*block.body)();
  leave(State::done);
}

inline void resume(Fiber& fiber) {
  block.current = &fiber;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&block.scheduler_fake, fiber.stack.data(), fiber.stack.size());
#endif
  swapcontext(&block.scheduler, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(block.scheduler_fake, nullptr, nullptr);
#endif
}

inline void start(Fiber& fiber, unsigned index) {
  if (fiber.stack.empty()) fiber.stack.resize(kStack);
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
  fiber.state = State::runnable;
  fiber.thread = {index % block_size.x, index / block_size.x % block_size.y, index / (block_size.x * block_size.y)};
  fiber.lane = index % kWarp;
  fiber.warp = index / kWarp;
}

/// Runs the threads of one warp until all of them have ended or wait for the block.
inline void run_warp(const std::vector<unsigned>& threads) {
  for (;;) {
    unsigned waiting = 0, stopped = 0;
    for (unsigned index : threads) {
      Fiber& fiber = block.fibers[index];
      if (fiber.state == State::runnable) resume(fiber);
      waiting += fiber.state == State::at_warp_barrier;
      stopped += fiber.state == State::at_block_barrier;
    }
    if (waiting == 0) return;
    if (stopped != 0) fail("some threads of a warp wait for the warp, others for the block");
    for (unsigned index : threads)
      if (block.fibers[index].state == State::at_warp_barrier) block.fibers[index].state = State::runnable;
  }
}

inline void run_block(unsigned threads) {
  if (block.fibers.size() < threads) block.fibers.resize(threads);
  block.slots.assign((threads + kWarp - 1) / kWarp * kWarp, 0);
  std::vector<std::vector<unsigned>> warps((threads + kWarp - 1) / kWarp);
  for (unsigned index = 0; index < threads; ++index) {
    start(block.fibers[index], index);
    warps[index / kWarp].push_back(index);
  }
  if (block.shuffled) {
    for (auto& warp : warps) std::shuffle(warp.begin(), warp.end(), block.shuffle);
    std::shuffle(warps.begin(), warps.end(), block.shuffle);
  }
  for (;;) {
    for (const auto& warp : warps) run_warp(warp);
    unsigned waiting = 0;
    for (unsigned index = 0; index < threads; ++index) {
      waiting += block.fibers[index].state == State::at_block_barrier;
      if (block.fibers[index].state == State::at_block_barrier) block.fibers[index].state = State::runnable;
    }
    if (waiting == 0) return;
  }
}

/// Runs a grid. Kernels without barriers need no fibers, which are slow: their threads run as a plain loop.
inline void run_grid(dim3 grid, dim3 threads, bool barriers, const std::function<void()>& body) {
  grid_size = grid;
  block_size = threads;
  block.body = &body;
  block.shuffled = order_seed != 0;
  block.shuffle.seed(order_seed);
  const unsigned count = threads.x * threads.y * threads.z;
  if (count == 0 || count > 1024) fail("a block has 1 to 1024 threads");
  std::vector<unsigned> order(static_cast<std::size_t>(grid.x) * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0u);
  if (block.shuffled) std::shuffle(order.begin(), order.end(), block.shuffle);
  Fiber plain;
  for (unsigned index : order) {
    block_index = {index % grid.x, index / grid.x % grid.y, index / (grid.x * grid.y)};
    if (barriers) {
      run_block(count);
      continue;
    }
    block.current = &plain;
    for (unsigned thread = 0; thread < count; ++thread) {
      const unsigned at = block.shuffled ? count - 1 - thread : thread;
      plain.thread = {at % threads.x, at / threads.x % threads.y, at / (threads.x * threads.y)};
      body();
    }
  }
}

inline std::uint64_t& slot(unsigned lane) { return block.slots[block.current->warp * kWarp + lane]; }

template <typename T> T from_lane(T value, unsigned lane) {
  static_assert(sizeof(T) <= 8);
  std::memcpy(&slot(block.current->lane), &value, sizeof(T));
  leave(State::at_warp_barrier);
  T result;
  std::memcpy(&result, &slot(lane < kWarp ? lane : block.current->lane), sizeof(T));
  leave(State::at_warp_barrier);
  return result;
}

/// A launchable kernel: its parameters are read through pointers, as cuLaunchKernel does.
struct Parameter {
  unsigned size, alignment, is_pointer;
};

struct Kernel {
  bool barriers;
  std::function<void(dim3, dim3, void**)> launch;
  std::vector<Parameter> parameters;
};

inline std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> table;
  return table;
}

template <typename... Parameters, std::size_t... Index>
void call(void (*kernel)(Parameters...), dim3 grid, dim3 threads, bool barriers, void** values,
          std::index_sequence<Index...>) {
  std::tuple<Parameters...> copy{*static_cast<std::remove_cv_t<Parameters>*>(values[Index])...};
  run_grid(grid, threads, barriers, [&] { std::apply(kernel, copy); });
}

struct Registration {
  template <typename... Parameters>
  Registration(const char* name, bool barriers, void (*kernel)(Parameters...)) {
    kernels()[name] = {barriers, [kernel, barriers](dim3 grid, dim3 threads, void** values) {
                         call(kernel, grid, threads, barriers, values, std::index_sequence_for<Parameters...>{});
                       },
                       {Parameter{sizeof(Parameters), alignof(Parameters), std::is_pointer_v<Parameters>}...}};
  }
};

}  // namespace cuda_on_host

#define threadIdx (cuda_on_host::block.current->thread)
#define blockIdx (cuda_on_host::block_index)
#define blockDim (cuda_on_host::block_size)
#define gridDim (cuda_on_host::grid_size)

inline void __syncthreads() { cuda_on_host::leave(cuda_on_host::State::at_block_barrier); }
inline void __syncwarp(unsigned = 0xffffffffu) { cuda_on_host::leave(cuda_on_host::State::at_warp_barrier); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T> T __shfl_sync(unsigned, T value, int lane, int = 32) {
  return cuda_on_host::from_lane(value, static_cast<unsigned>(lane) % cuda_on_host::kWarp);
}
template <typename T> T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
  return cuda_on_host::from_lane(value, cuda_on_host::block.current->lane ^ static_cast<unsigned>(mask));
}
template <typename T> T __shfl_down_sync(unsigned, T value, unsigned delta, int = 32) {
  return cuda_on_host::from_lane(value, cuda_on_host::block.current->lane + delta);
}
template <typename T> T __shfl_up_sync(unsigned, T value, unsigned delta, int = 32) {
  const unsigned lane = cuda_on_host::block.current->lane;
  return cuda_on_host::from_lane(value, lane < delta ? lane : lane - delta);
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  unsigned result = 0;
  cuda_on_host::slot(cuda_on_host::block.current->lane) = predicate != 0;
  cuda_on_host::leave(cuda_on_host::State::at_warp_barrier);
  for (unsigned lane = 0; lane < cuda_on_host::kWarp; ++lane)
    result |= static_cast<unsigned>(cuda_on_host::slot(lane) & 1u) << lane;
  cuda_on_host::leave(cuda_on_host::State::at_warp_barrier);
  return result;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __syncthreads_or(int predicate) {
  static thread_local int any;
  __syncthreads();
  any = 0;
  __syncthreads();
  any |= predicate;
  __syncthreads();
  return any != 0;
}
inline int __syncthreads_count(int predicate) {
  static thread_local int count;
  __syncthreads();
  count = 0;
  __syncthreads();
  count += predicate != 0;
  __syncthreads();
  return count;
}

template <typename T> T atomicAdd(T* at, T value) { return std::exchange(*at, static_cast<T>(*at + value)); }
template <typename T> T atomicMax(T* at, T value) { return std::exchange(*at, std::max(*at, value)); }
template <typename T> T atomicMin(T* at, T value) { return std::exchange(*at, std::min(*at, value)); }
template <typename T> T atomicOr(T* at, T value) { return std::exchange(*at, static_cast<T>(*at | value)); }
template <typename T> T atomicExch(T* at, T value) { return std::exchange(*at, value); }
template <typename T> T atomicCAS(T* at, T expected, T value) {
  return std::exchange(*at, *at == expected ? value : *at);
}

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value)); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
template <typename T> T __ldg(const T* at) { return *at; }
