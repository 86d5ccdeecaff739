// As much of CUDA as custom_ops/pack_op.cu.cc uses, on CPU threads: one std::thread per CUDA thread
// of a block, one block after the other. For tests on machines without a GPU.

#pragma once

#include <algorithm>
#include <barrier>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(threads)

struct Index {
  unsigned x;
};
inline thread_local Index threadIdx, blockIdx;
inline Index gridDim;
inline std::unique_ptr<std::barrier<>> block_barrier;

struct uint2 {
  uint32_t x, y;
};
struct uint4 {
  uint32_t x, y, z, w;
};

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return ""; }

inline void __syncthreads() { block_barrier->arrive_and_wait(); }
inline int atomicAdd(int* address, int value) {
  return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}

// Stands for kernel<<<blocks, threads>>>. Few blocks, so that each goes over several rows.
template <typename Kernel>
void RunOnCpu(unsigned blocks, int threads, const Kernel& kernel) {
  gridDim.x = std::min(blocks, 3u);
  for (unsigned block = 0; block < gridDim.x; ++block) {
    block_barrier = std::make_unique<std::barrier<>>(threads);
    std::vector<std::thread> running;
    for (int thread = 0; thread < threads; ++thread) {
      running.emplace_back([&, thread, block] {
        threadIdx.x = thread;
        blockIdx.x = block;
        kernel();
      });
    }
    for (std::thread& thread : running) thread.join();
  }
}
