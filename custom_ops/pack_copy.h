// The arithmetic of packing on a CPU: plain functions over pointers.

#ifndef TFDET_CUSTOM_OPS_PACK_COPY_H_
#define TFDET_CUSTOM_OPS_PACK_COPY_H_

#include <vector>

#include "pack_layout.h"

namespace tfdet {

// Copies maps[i] = [batch, boxes[i].height, boxes[i].width, cell] into the canvas and writes zeros
// into the cells that no map covers. Each byte of the canvas is written once. `LayoutError` must
// have found nothing.
void PackMaps(const Canvas& canvas, const std::vector<Box>& boxes,
              const std::vector<const char*>& maps, char* packed);

// The inverse: copies each box of the canvas into its map. Cells outside the boxes are not read.
void UnpackMaps(const Canvas& canvas, const std::vector<Box>& boxes, const char* packed,
                const std::vector<char*>& maps);

}  // namespace tfdet

#endif  // TFDET_CUSTOM_OPS_PACK_COPY_H_
