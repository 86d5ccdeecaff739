// The CUDA kernel: one launch copies all maps and writes the gaps.
//
// Blocks go over rows of the canvas. A row crosses few maps, so a block first notes which; then its
// threads walk along the row, neighbours on neighbouring words: reads and writes are coalesced and
// each byte of the canvas is written once. A word is the longest of 16, 8, 4 and 2 bytes that the
// size of a cell and all addresses are multiples of.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "pack_cuda.h"

namespace tfdet {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 16;

// What the kernel needs to know of one map; everything but y and height counts in words.
struct Map {
  char* data;
  int64_t x, width;
  int32_t y, height;
};

// Launch arguments, read through the constant cache.
struct Job {
  Map maps[kMaxMaps];
  char* packed;
  int64_t row_words;
  int64_t rows;
  int32_t canvas_height;
  int32_t num_maps;
};
static_assert(sizeof(Job) <= 4096, "kernel arguments are limited to 4 KiB");

template <typename Word, bool kPack>
__global__ void __launch_bounds__(kThreads) CopyRows(const __grid_constant__ Job job) {
  __shared__ int crossed[kMaxMaps];
  __shared__ int num_crossed;
  Word* const packed = reinterpret_cast<Word*>(job.packed);
  for (int64_t row = blockIdx.x; row < job.rows; row += gridDim.x) {
    const int64_t image = row / job.canvas_height;
    const int32_t y = static_cast<int32_t>(row - image * job.canvas_height);
    __syncthreads();  // nobody reads the last row's list any more
    if (threadIdx.x == 0) num_crossed = 0;
    __syncthreads();
    if (threadIdx.x < job.num_maps) {
      const Map& map = job.maps[threadIdx.x];
      if (y >= map.y && y - map.y < map.height) crossed[atomicAdd(&num_crossed, 1)] = threadIdx.x;
    }
    __syncthreads();
    for (int64_t x = threadIdx.x; x < job.row_words; x += kThreads) {
      Word* cell = packed + row * job.row_words + x;
      Word* source = nullptr;
      for (int i = 0; i < num_crossed; ++i) {
        const Map& map = job.maps[crossed[i]];
        if (x >= map.x && x - map.x < map.width) {
          source = reinterpret_cast<Word*>(map.data) +
                   (image * map.height + (y - map.y)) * map.width + (x - map.x);
        }
      }
      if constexpr (kPack) {
        *cell = source == nullptr ? Word{} : *source;
      } else if (source != nullptr) {
        *source = *cell;
      }
    }
  }
}

template <typename Word, bool kPack>
cudaError_t Launch(Job job, int64_t cell_bytes, cudaStream_t stream) {
  const int64_t cell_words = cell_bytes / static_cast<int64_t>(sizeof(Word));
  for (int i = 0; i < job.num_maps; ++i) {
    job.maps[i].x *= cell_words;
    job.maps[i].width *= cell_words;
  }
  job.row_words *= cell_words;
  const auto blocks = static_cast<unsigned>(std::min(job.rows, kMaxBlocks));
  CopyRows<Word, kPack><<<blocks, kThreads, 0, stream>>>(job);
  return cudaGetLastError();
}

template <bool kPack>
int Copy(const Canvas& canvas, int num_maps, const Box* boxes, void* const* maps, void* packed,
         void* stream_handle) {
  if (canvas.batch == 0 || canvas.cell_bytes == 0) return cudaSuccess;
  Job job{};
  job.packed = static_cast<char*>(packed);
  job.row_words = canvas.width;
  job.rows = canvas.batch * canvas.height;
  job.canvas_height = static_cast<int32_t>(canvas.height);
  job.num_maps = num_maps;
  uint64_t alignment = reinterpret_cast<uintptr_t>(packed) | canvas.cell_bytes;
  for (int i = 0; i < num_maps; ++i) {
    job.maps[i] = {static_cast<char*>(maps[i]), boxes[i].x, boxes[i].width,
                   static_cast<int32_t>(boxes[i].y), static_cast<int32_t>(boxes[i].height)};
    alignment |= reinterpret_cast<uintptr_t>(maps[i]);
  }
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  if (alignment % 16 == 0) return Launch<uint4, kPack>(job, canvas.cell_bytes, stream);
  if (alignment % 8 == 0) return Launch<uint2, kPack>(job, canvas.cell_bytes, stream);
  if (alignment % 4 == 0) return Launch<uint32_t, kPack>(job, canvas.cell_bytes, stream);
  if (alignment % 2 == 0) return Launch<uint16_t, kPack>(job, canvas.cell_bytes, stream);
  return Launch<uint8_t, kPack>(job, canvas.cell_bytes, stream);
}

}  // namespace
}  // namespace tfdet

extern "C" {

int TfdetPackCuda(const tfdet::Canvas* canvas, int num_maps, const tfdet::Box* boxes,
                  const void* const* maps, void* packed, void* stream) {
  // One kernel for both ways: it reads the maps here and writes them in the other.
  return tfdet::Copy<true>(*canvas, num_maps, boxes, const_cast<void* const*>(maps), packed,
                           stream);
}

int TfdetUnpackCuda(const tfdet::Canvas* canvas, int num_maps, const tfdet::Box* boxes,
                    const void* packed, void* const* maps, void* stream) {
  return tfdet::Copy<false>(*canvas, num_maps, boxes, maps, const_cast<void*>(packed), stream);
}

const char* TfdetCudaErrorText(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

}  // extern "C"
