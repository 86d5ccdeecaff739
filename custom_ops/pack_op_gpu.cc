// GPU kernels of TfdetPack and TfdetUnpack. The ops themselves are defined in pack_op.cc.
//
// TensorFlow's C API gives out no CUDA stream, so this file uses the C++ API and its library serves
// one TensorFlow version only.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pack_cuda.h"
#include "pack_layout.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "xla/stream_executor/stream.h"

namespace tfdet {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

template <typename... Parts>
absl::Status InvalidArgument(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

void* Data(const Tensor& tensor) { return const_cast<char*>(tensor.tensor_data().data()); }

void* Stream(OpKernelContext* context) {
  return context->op_device_context()->stream()->platform_specific_handle().stream;
}

class KernelBase : public OpKernel {
 public:
  explicit KernelBase(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("corners", &corners_));
  }

 protected:
  // Fills `boxes` with the corners and the sizes that `size_of(i)` reads from axes y and x of a
  // tensor of `rank` dimensions.
  template <typename SizeOf>
  void ReadBoxes(OpKernelContext* context, int rank, int y_axis, const SizeOf& size_of,
                 std::vector<Box>* boxes) const {
    const int num_maps = context->num_inputs() - 1;
    OP_REQUIRES(context, corners_.size() == 2 * static_cast<size_t>(num_maps),
                InvalidArgument("corners must be x and y of each of ", num_maps, " maps, got ",
                                corners_.size(), " numbers"));
    for (int i = 0; i < num_maps; ++i) {
      const TensorShape& shape = size_of(i).shape();
      OP_REQUIRES(context, shape.dims() == rank,
                  InvalidArgument("map ", i, " must have ", rank, " dimensions, got ",
                                  shape.DebugString()));
      boxes->push_back({corners_[2 * i], corners_[2 * i + 1], shape.dim_size(y_axis + 1),
                        shape.dim_size(y_axis)});
    }
  }

  static void CheckLayout(OpKernelContext* context, const std::vector<Box>& boxes, int64_t height,
                          int64_t width) {
    const std::string error = LayoutError(boxes, height, width);
    OP_REQUIRES(context, error.empty(), InvalidArgument(error));
  }

  static void CheckLaunch(OpKernelContext* context, int error) {
    OP_REQUIRES(context, error == 0,
                absl::InternalError(absl::StrCat("packing on the GPU: ", TfdetCudaErrorText(error))));
  }

  std::vector<int64_t> corners_;
};

class PackKernel : public KernelBase {
 public:
  using KernelBase::KernelBase;

  void Compute(OpKernelContext* context) override {
    std::vector<Box> boxes;
    const auto map = [&](int i) -> const Tensor& { return context->input(i); };
    ReadBoxes(context, 4, 1, map, &boxes);
    if (!context->status().ok()) return;
    const int num_maps = static_cast<int>(boxes.size());
    const TensorShape first = context->input(0).shape(), size = context->input(num_maps).shape();
    OP_REQUIRES(context, size.dims() == 3,
                InvalidArgument("size must have 3 dimensions, got ", size.DebugString()));
    std::vector<const void*> maps;
    for (int i = 0; i < num_maps; ++i) {
      const TensorShape shape = context->input(i).shape();
      OP_REQUIRES(context,
                  shape.dim_size(0) == first.dim_size(0) && shape.dim_size(3) == first.dim_size(3),
                  InvalidArgument("all maps must have the batch size and channels of map 0, ",
                                  first.DebugString(), "; map ", i, " is ", shape.DebugString()));
      maps.push_back(Data(context->input(i)));
    }
    CheckLayout(context, boxes, size.dim_size(0), size.dim_size(1));
    if (!context->status().ok()) return;
    TensorShape shape;
    for (const int64_t dim :
         {first.dim_size(0), size.dim_size(0), size.dim_size(1), first.dim_size(3)}) {
      OP_REQUIRES_OK(context, shape.AddDimWithStatus(dim));
    }
    Tensor* packed = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &packed));
    const int64_t cell = shape.dim_size(3) * DataTypeSize(packed->dtype());
    const Canvas canvas{shape.dim_size(0), shape.dim_size(1), shape.dim_size(2), cell};
    CheckLaunch(context, TfdetPackCuda(&canvas, num_maps, boxes.data(), maps.data(), Data(*packed),
                                       Stream(context)));
  }
};

class UnpackKernel : public KernelBase {
 public:
  using KernelBase::KernelBase;

  void Compute(OpKernelContext* context) override {
    std::vector<Box> boxes;
    const auto size = [&](int i) -> const Tensor& { return context->input(i + 1); };
    ReadBoxes(context, 3, 0, size, &boxes);
    if (!context->status().ok()) return;
    const Tensor packed = context->input(0);
    const TensorShape& shape = packed.shape();
    OP_REQUIRES(context, shape.dims() == 4,
                InvalidArgument("packed must have 4 dimensions, got ", shape.DebugString()));
    CheckLayout(context, boxes, shape.dim_size(1), shape.dim_size(2));
    if (!context->status().ok()) return;
    std::vector<void*> maps;
    for (size_t i = 0; i < boxes.size(); ++i) {
      // Inside the packed map, so the product of these cannot overflow.
      const TensorShape map_shape(
          {shape.dim_size(0), boxes[i].height, boxes[i].width, shape.dim_size(3)});
      Tensor* map = nullptr;
      OP_REQUIRES_OK(context, context->allocate_output(static_cast<int>(i), map_shape, &map));
      maps.push_back(Data(*map));
    }
    const int64_t cell = shape.dim_size(3) * DataTypeSize(packed.dtype());
    const Canvas canvas{shape.dim_size(0), shape.dim_size(1), shape.dim_size(2), cell};
    CheckLaunch(context, TfdetUnpackCuda(&canvas, static_cast<int>(boxes.size()), boxes.data(),
                                         Data(packed), maps.data(), Stream(context)));
  }
};

// The sizes are shapes of tensors without elements; in host memory nothing is copied for them.
REGISTER_KERNEL_BUILDER(Name("TfdetPack").Device(tensorflow::DEVICE_GPU).HostMemory("size"),
                        PackKernel);
REGISTER_KERNEL_BUILDER(Name("TfdetUnpack").Device(tensorflow::DEVICE_GPU).HostMemory("sizes"),
                        UnpackKernel);

}  // namespace
}  // namespace tfdet
