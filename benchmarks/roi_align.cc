// RoIAlign as a hand-written kernel has it, the yardstick of benchmarks/two_stage.py.
//
// Maps are NHWC with a batch of one; bins read `ratio` x `ratio` bilinear samples each. Threads share
// the regions evenly.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

struct Tap {
  int64_t low, high;
  float share;  // of `high`
  bool inside;
};

Tap tap_at(float place, int64_t size) {
  if (!(place >= -1.0f && place <= static_cast<float>(size))) return {0, 0, 0.0f, false};
  place = std::clamp(place, 0.0f, static_cast<float>(size - 1));
  const auto low = static_cast<int64_t>(place);
  return {low, std::min(low + 1, size - 1), place - static_cast<float>(low), true};
}

void add(float* out, const float* in, float weight, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c) out[c] += weight * in[c];
}

struct Task {
  const float* const* maps;
  const int64_t* sizes;  // height and width of each map
  int64_t channels;
  const float* boxes;    // xyxy in pixels
  const int32_t* rows;   // which map each box reads
  const float* scales;   // cells per pixel of each map
  int64_t bins, ratio;
  float* out;
};

void region(const Task& task, int64_t n) {
  const int32_t row = task.rows[n];
  const int64_t height = task.sizes[2 * row], width = task.sizes[2 * row + 1];
  const float* box = task.boxes + 4 * n;
  const float scale = task.scales[row];
  const float left = box[0] * scale - 0.5f, top = box[1] * scale - 0.5f;
  const int64_t points = task.bins * task.ratio;
  const float step_x = (box[2] - box[0]) * scale / static_cast<float>(points);
  const float step_y = (box[3] - box[1]) * scale / static_cast<float>(points);
  const float mean = 1.0f / static_cast<float>(task.ratio * task.ratio);
  const float* map = task.maps[row];
  float* out = task.out + n * task.bins * task.bins * task.channels;
  std::fill(out, out + task.bins * task.bins * task.channels, 0.0f);
  for (int64_t i = 0; i < points; ++i) {
    const Tap y = tap_at(top + (static_cast<float>(i) + 0.5f) * step_y, height);
    for (int64_t j = 0; j < points && y.inside; ++j) {
      const Tap x = tap_at(left + (static_cast<float>(j) + 0.5f) * step_x, width);
      if (!x.inside) continue;
      float* bin = out + (i / task.ratio * task.bins + j / task.ratio) * task.channels;
      const float* upper = map + y.low * width * task.channels;
      const float* lower = map + y.high * width * task.channels;
      const int64_t a = x.low * task.channels, b = x.high * task.channels;
      add(bin, upper + a, mean * (1 - y.share) * (1 - x.share), task.channels);
      add(bin, upper + b, mean * (1 - y.share) * x.share, task.channels);
      add(bin, lower + a, mean * y.share * (1 - x.share), task.channels);
      add(bin, lower + b, mean * y.share * x.share, task.channels);
    }
  }
}

}  // namespace

extern "C" void roi_align(const float* const* maps, const int64_t* sizes, int64_t channels,
                          const float* boxes, const int32_t* rows, const float* scales,
                          int64_t count, int64_t bins, int64_t ratio, int64_t threads, float* out) {
  const Task task{maps, sizes, channels, boxes, rows, scales, bins, ratio, out};
  std::vector<std::thread> workers;
  for (int64_t t = 0; t < threads; ++t) {
    workers.emplace_back([&task, t, threads, count] {
      for (int64_t n = t * count / threads; n < (t + 1) * count / threads; ++n) region(task, n);
    });
  }
  for (auto& worker : workers) worker.join();
}
