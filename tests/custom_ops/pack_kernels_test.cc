// Packs and unpacks with the CPU's plain functions and, where CUDA_ON_CPU is set, with the CUDA
// kernel on CPU threads, and compares with copying cell by cell. Exits with the number of faults.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "pack_copy.h"
#ifdef CUDA_ON_CPU
#include "pack_cuda.h"
#endif

namespace {

using tfdet::Box;
using tfdet::Canvas;
using Bytes = std::vector<char>;

constexpr char kUntouched = 0x5a;
constexpr int kMargin = 16;
int faults = 0;

void Expect(bool condition, const char* what, const Canvas& canvas, int offset) {
  if (condition) return;
  ++faults;
  std::printf("%s: batch %d, cells of %d bytes, offset %d\n", what, int(canvas.batch),
              int(canvas.cell_bytes), offset);
}

Bytes Slowly(const Canvas& canvas, const std::vector<Box>& boxes,
             const std::vector<const char*>& maps) {
  Bytes packed(canvas.batch * canvas.height * canvas.width * canvas.cell_bytes, 0);
  for (size_t i = 0; i < boxes.size(); ++i) {
    const char* cell = maps[i];
    for (int64_t b = 0; b < canvas.batch; ++b) {
      for (int64_t y = 0; y < boxes[i].height; ++y) {
        for (int64_t x = 0; x < boxes[i].width; ++x) {
          const int64_t row = b * canvas.height + boxes[i].y + y;
          const int64_t to = (row * canvas.width + boxes[i].x + x) * canvas.cell_bytes;
          for (int64_t k = 0; k < canvas.cell_bytes; ++k) packed[to + k] = *cell++;
        }
      }
    }
  }
  return packed;
}

template <typename Pack, typename Unpack>
void Check(const Canvas& canvas, const std::vector<Box>& boxes, int offset, const Pack& pack,
           const Unpack& unpack) {
  std::vector<Bytes> sources, targets;
  std::vector<const char*> maps;
  std::vector<char*> unpacked;
  for (const Box& box : boxes) {
    Bytes bytes(canvas.batch * box.height * box.width * canvas.cell_bytes + 2 * kMargin);
    for (char& byte : bytes) byte = static_cast<char>(std::rand());
    sources.push_back(bytes);
    targets.emplace_back(bytes.size(), kUntouched);
  }
  for (size_t i = 0; i < boxes.size(); ++i) {
    maps.push_back(sources[i].data() + offset);
    unpacked.push_back(targets[i].data() + offset);
  }
  const Bytes expected = Slowly(canvas, boxes, maps);
  Bytes packed(expected.size() + 2 * kMargin, kUntouched);
  pack(maps, packed.data() + offset);
  for (size_t i = 0; i < packed.size(); ++i) {
    const bool inside = i >= size_t(offset) && i < offset + expected.size();
    Expect(packed[i] == (inside ? expected[i - offset] : kUntouched), "pack", canvas, offset);
    if (faults > 20) std::exit(1);
  }
  unpack(packed.data() + offset, unpacked);
  for (size_t i = 0; i < boxes.size(); ++i) {
    const size_t size = targets[i].size() - 2 * kMargin;
    Expect(std::memcmp(unpacked[i], maps[i], size) == 0, "unpack", canvas, offset);
    Expect(unpacked[i][size] == kUntouched, "unpack past the end", canvas, offset);
  }
}

}  // namespace

int main() {
  // Pattern 4 of a 128x128 image, and four boxes around a gap.
  const std::vector<std::vector<Box>> layouts = {
      {{0, 0, 16, 16}, {0, 16, 8, 8}, {12, 20, 4, 4}, {10, 18, 2, 2}, {9, 17, 1, 1},
       {8, 20, 4, 4}, {14, 18, 2, 2}, {13, 17, 1, 1}},
      {{0, 0, 3, 2}, {3, 0, 2, 3}, {2, 3, 3, 2}, {0, 2, 2, 3}}};
  for (const std::vector<Box>& boxes : layouts) {
    const bool is_pinwheel = boxes.size() == 4;
    const int64_t height = is_pinwheel ? 5 : 24, width = is_pinwheel ? 5 : 16;
    if (!tfdet::LayoutError(boxes, height, width).empty()) return 1;
    for (const int64_t cell_bytes : {0, 2, 4, 8, 12, 16, 520}) {
      for (const int64_t batch : {0, 2}) {
        for (const int offset : {0, 2, 8}) {  // of all tensors: words must fit their addresses
          const Canvas canvas{batch, height, width, cell_bytes};
          Check(canvas, boxes, offset,
                [&](const std::vector<const char*>& maps, char* packed) {
                  tfdet::PackMaps(canvas, boxes, maps, packed);
                },
                [&](const char* packed, const std::vector<char*>& maps) {
                  tfdet::UnpackMaps(canvas, boxes, packed, maps);
                });
#ifdef CUDA_ON_CPU
          const int count = static_cast<int>(boxes.size());
          Check(canvas, boxes, offset,
                [&](const std::vector<const char*>& maps, char* packed) {
                  const std::vector<const void*> plain(maps.begin(), maps.end());
                  TfdetPackCuda(&canvas, count, boxes.data(), plain.data(), packed, nullptr);
                },
                [&](const char* packed, const std::vector<char*>& maps) {
                  const std::vector<void*> plain(maps.begin(), maps.end());
                  TfdetUnpackCuda(&canvas, count, boxes.data(), packed, plain.data(), nullptr);
                });
#endif
        }
      }
    }
  }
  std::printf("%d faults\n", faults);
  return faults;
}
