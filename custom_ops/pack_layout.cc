#include "pack_layout.h"

namespace tfdet {
namespace {

std::string Size(int64_t height, int64_t width) {
  return std::to_string(height) + "x" + std::to_string(width);
}

std::string Describe(size_t index, const Box& box) {
  return "map " + std::to_string(index) + " (" + Size(box.height, box.width) + " at x=" +
         std::to_string(box.x) + ", y=" + std::to_string(box.y) + ")";
}

bool Inside(const Box& box, int64_t height, int64_t width) {
  return box.width >= 1 && box.height >= 1 && box.width <= width && box.height <= height &&
         box.x >= 0 && box.y >= 0 && box.x <= width - box.width && box.y <= height - box.height;
}

bool Overlap(const Box& a, const Box& b) {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height &&
         b.y < a.y + a.height;
}

}  // namespace

std::string LayoutError(const std::vector<Box>& boxes, int64_t height, int64_t width) {
  if (boxes.empty() || boxes.size() > kMaxMaps) {
    return "expected 1 to " + std::to_string(kMaxMaps) + " maps, got " +
           std::to_string(boxes.size());
  }
  if (height < 0 || width < 0 || height > kMaxSide || width > kMaxSide) {
    return "expected a packed map with sides below 2^31, got " + Size(height, width);
  }
  for (size_t i = 0; i < boxes.size(); ++i) {
    if (!Inside(boxes[i], height, width)) {
      return Describe(i, boxes[i]) + " is empty or outside the packed map of " +
             Size(height, width);
    }
    for (size_t j = 0; j < i; ++j) {
      if (Overlap(boxes[i], boxes[j])) {
        return Describe(j, boxes[j]) + " and " + Describe(i, boxes[i]) + " overlap";
      }
    }
  }
  return "";
}

}  // namespace tfdet
