// Packing on a GPU: plain launch functions, without headers of TensorFlow or CUDA.

#ifndef TFDET_CUSTOM_OPS_PACK_CUDA_H_
#define TFDET_CUSTOM_OPS_PACK_CUDA_H_

#include "pack_layout.h"

extern "C" {

// Enqueues one kernel on `stream` (a cudaStream_t) and returns without waiting for it. All pointers
// but `boxes` and `maps` themselves are on the device. `LayoutError` must have found nothing.
//
// Returns 0, or the cudaError_t of the launch, for which TfdetCudaErrorText has words.
int TfdetPackCuda(const tfdet::Canvas* canvas, int num_maps, const tfdet::Box* boxes,
                  const void* const* maps, void* packed, void* stream);
int TfdetUnpackCuda(const tfdet::Canvas* canvas, int num_maps, const tfdet::Box* boxes,
                    const void* packed, void* const* maps, void* stream);

const char* TfdetCudaErrorText(int error);

}  // extern "C"

#endif  // TFDET_CUSTOM_OPS_PACK_CUDA_H_
