// Where maps lie inside a packed map, and whether they may lie there.

#ifndef TFDET_CUSTOM_OPS_PACK_LAYOUT_H_
#define TFDET_CUSTOM_OPS_PACK_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tfdet {

// The CUDA kernel takes all boxes as launch arguments, of which there are 4 KiB.
constexpr int kMaxMaps = 64;

// Sides are limited to 31 bits, so that sums of two of them cannot overflow.
constexpr int64_t kMaxSide = INT32_MAX;

// In cells; (x, y) is the upper left corner.
struct Box {
  int64_t x, y, width, height;
};

// A packed map [batch, height, width, channels]; a cell holds all its channels.
struct Canvas {
  int64_t batch, height, width, cell_bytes;
};

// Empty where the boxes are disjoint and inside the canvas, else one sentence that says which is
// not. Everything that reads or writes through boxes relies on this check.
std::string LayoutError(const std::vector<Box>& boxes, int64_t height, int64_t width);

}  // namespace tfdet

#endif  // TFDET_CUSTOM_OPS_PACK_LAYOUT_H_
