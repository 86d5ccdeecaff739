#include "pack_copy.h"

#include <algorithm>
#include <cstring>

#include "parallel.h"

namespace tfdet {
namespace {

// Work for one thread at a time: long enough to hide the cost of handing it out, short enough for
// all cores to end together.
constexpr int64_t kChunkBytes = 256 * 1024;

constexpr int kGap = -1;

// A run of cells of a canvas row that belong to one map, or to none.
struct Segment {
  int64_t x, width;
  int map;
};

// Rows of the canvas that cross the same maps.
struct Band {
  int64_t begin, end;
  std::vector<Segment> segments;
};

std::vector<Segment> SegmentsOfRow(const std::vector<Box>& boxes, int64_t y, int64_t width) {
  std::vector<Segment> maps, segments;
  for (size_t i = 0; i < boxes.size(); ++i) {
    const Box& box = boxes[i];
    if (box.y <= y && y < box.y + box.height) {
      maps.push_back({box.x, box.width, static_cast<int>(i)});
    }
  }
  std::sort(maps.begin(), maps.end(),
            [](const Segment& a, const Segment& b) { return a.x < b.x; });
  int64_t x = 0;
  for (const Segment& map : maps) {
    if (map.x > x) segments.push_back({x, map.x - x, kGap});
    segments.push_back(map);
    x = map.x + map.width;
  }
  if (x < width) segments.push_back({x, width - x, kGap});
  return segments;
}

std::vector<Band> Bands(const Canvas& canvas, const std::vector<Box>& boxes) {
  std::vector<int64_t> edges = {0, canvas.height};
  for (const Box& box : boxes) {
    edges.push_back(box.y);
    edges.push_back(box.y + box.height);
  }
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  std::vector<Band> bands;
  for (size_t i = 0; i + 1 < edges.size(); ++i) {
    bands.push_back({edges[i], edges[i + 1], SegmentsOfRow(boxes, edges[i], canvas.width)});
  }
  return bands;
}

// Goes over rows of the canvas, counted through the batch, and calls
// copy(map, offset in the map, offset in the canvas, bytes) for each piece; map is kGap in gaps.
template <typename Copy>
void VisitRows(const Canvas& canvas, const std::vector<Box>& boxes,
               const std::vector<Band>& bands, int64_t begin, int64_t end, const Copy& copy) {
  const int64_t cell = canvas.cell_bytes;
  for (int64_t row = begin; row < end;) {
    const int64_t image = row / canvas.height, y = row % canvas.height;
    const Band& band = *std::find_if(bands.begin(), bands.end(),
                                     [y](const Band& band) { return y < band.end; });
    // Rows that one map fills, as level 0 always does, are one long piece.
    const bool is_whole = band.segments.size() == 1;
    const int64_t rows = is_whole ? std::min(band.end - y, end - row) : 1;
    for (const Segment& segment : band.segments) {
      const int64_t bytes = rows * segment.width * cell;
      int64_t offset = 0;
      if (segment.map != kGap) {
        const Box& box = boxes[segment.map];
        offset = (image * box.height + y - box.y) * box.width * cell;
      }
      copy(segment.map, offset, (row * canvas.width + segment.x) * cell, bytes);
    }
    row += rows;
  }
}

template <typename Copy>
void VisitCanvas(const Canvas& canvas, const std::vector<Box>& boxes, const Copy& copy) {
  const int64_t row_bytes = canvas.width * canvas.cell_bytes;
  const int64_t rows = canvas.batch * canvas.height;
  if (rows == 0 || row_bytes == 0) return;
  const std::vector<Band> bands = Bands(canvas, boxes);
  const int64_t chunk = std::max<int64_t>(1, kChunkBytes / row_bytes);
  ParallelFor((rows + chunk - 1) / chunk, [&](int64_t i) {
    VisitRows(canvas, boxes, bands, i * chunk, std::min(rows, (i + 1) * chunk), copy);
  });
}

}  // namespace

void PackMaps(const Canvas& canvas, const std::vector<Box>& boxes,
              const std::vector<const char*>& maps, char* packed) {
  VisitCanvas(canvas, boxes, [&](int map, int64_t source, int64_t target, int64_t bytes) {
    if (map == kGap) {
      std::memset(packed + target, 0, bytes);
    } else {
      std::memcpy(packed + target, maps[map] + source, bytes);
    }
  });
}

void UnpackMaps(const Canvas& canvas, const std::vector<Box>& boxes, const char* packed,
                const std::vector<char*>& maps) {
  VisitCanvas(canvas, boxes, [&](int map, int64_t target, int64_t source, int64_t bytes) {
    if (map != kGap) std::memcpy(maps[map] + target, packed + source, bytes);
  });
}

}  // namespace tfdet
