// TfdetPack and TfdetUnpack: definition, shape functions and CPU kernels.
//
// Written against TensorFlow's C API alone, so that one binary serves every TensorFlow version.
// A shape function of that API sees nothing but shapes: neither attributes (save types) nor values.
// So sizes come as shapes of int8 tensors [height, width, 0], which have no elements.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pack_copy.h"
#include "pack_layout.h"
#include "tensorflow_c_api.h"

namespace tfdet {
namespace {

// ---------------------------------------------------------------------------------------- handles

template <typename T, void (*Delete)(T*)>
struct Deleter {
  void operator()(T* handle) const { Delete(handle); }
};
using Status = std::unique_ptr<TF_Status, Deleter<TF_Status, TF_DeleteStatus>>;
using Tensor = std::unique_ptr<TF_Tensor, Deleter<TF_Tensor, TF_DeleteTensor>>;
using Shape = std::unique_ptr<TF_ShapeHandle, Deleter<TF_ShapeHandle, TF_DeleteShapeHandle>>;
using Dimension =
    std::unique_ptr<TF_DimensionHandle, Deleter<TF_DimensionHandle, TF_DeleteDimensionHandle>>;

bool IsOk(const Status& status) { return TF_GetCode(status.get()) == TF_OK; }

// -------------------------------------------------------------------------------- shape functions

// Thrown nowhere: the C API reports through `status`, and every step is skipped after a failure.
class Shapes {
 public:
  Shapes(TF_ShapeInferenceContext* context, TF_Status* status)
      : context_(context), status_(status) {}

  bool ok() const { return TF_GetCode(status_) == TF_OK; }

  Shape Input(int index, int64_t rank) {
    Shape input(TF_NewShapeHandle()), ranked(TF_NewShapeHandle());
    if (ok()) TF_ShapeInferenceContextGetInput(context_, index, input.get(), status_);
    if (ok()) {
      TF_ShapeInferenceContextWithRank(context_, input.get(), rank, ranked.get(), status_);
    }
    return ranked;
  }

  Shape Slice(const Shape& shape, int64_t begin, int64_t end) {
    Shape part(TF_NewShapeHandle());
    if (ok()) {
      TF_ShapeInferenceContextSubshape(context_, shape.get(), begin, end, part.get(), status_);
    }
    return part;
  }

  Shape Concatenate(const Shape& first, const Shape& second) {
    Shape both(TF_NewShapeHandle());
    if (ok()) {
      TF_ShapeInferenceContextConcatenateShapes(context_, first.get(), second.get(), both.get(),
                                                status_);
    }
    return both;
  }

  // -1 where it is unknown.
  int64_t Size(const Shape& shape, int64_t axis) {
    if (!ok() || !TF_ShapeInferenceContextRankKnown(context_, shape.get())) return -1;
    Dimension dimension(TF_NewDimensionHandle());
    TF_ShapeInferenceContextDim(context_, shape.get(), axis, dimension.get());
    const bool is_known = TF_DimensionHandleValueKnown(dimension.get());
    return is_known ? TF_DimensionHandleValue(dimension.get()) : -1;
  }

  // The one of both shapes that knows more about this axis; they must not contradict each other.
  void Merge(Shape* known, Shape shape, int64_t axis, const char* what) {
    const int64_t a = Size(*known, axis), b = Size(shape, axis);
    if (a >= 0 && b >= 0 && a != b) {
      Fail(std::string("all maps must have the same ") + what + ", got " + std::to_string(a) +
           " and " + std::to_string(b));
    }
    if (a < 0) *known = std::move(shape);
  }

  void SetOutput(int index, const Shape& batch, const Shape& size, const Shape& channels) {
    Shape output = Concatenate(Concatenate(Slice(batch, 0, 1), Slice(size, 0, 2)),
                               Slice(channels, 3, 4));
    if (ok()) TF_ShapeInferenceContextSetOutput(context_, index, output.get(), status_);
  }

  void Fail(const std::string& message) {
    if (ok()) TF_SetStatus(status_, TF_INVALID_ARGUMENT, message.c_str());
  }

 private:
  TF_ShapeInferenceContext* context_;
  TF_Status* status_;
};

void PackShape(TF_ShapeInferenceContext* context, TF_Status* status) {
  Shapes shapes(context, status);
  const int num_maps = static_cast<int>(TF_ShapeInferenceContextNumInputs(context)) - 1;
  Shape batch = shapes.Input(0, 4), channels = shapes.Input(0, 4);
  for (int i = 1; i < num_maps; ++i) {
    shapes.Merge(&batch, shapes.Input(i, 4), 0, "batch size");
    shapes.Merge(&channels, shapes.Input(i, 4), 3, "number of channels");
  }
  shapes.SetOutput(0, batch, shapes.Input(num_maps, 3), channels);
}

void UnpackShape(TF_ShapeInferenceContext* context, TF_Status* status) {
  Shapes shapes(context, status);
  const int num_maps = static_cast<int>(TF_ShapeInferenceContextNumInputs(context)) - 1;
  const Shape packed = shapes.Input(0, 4);
  for (int i = 0; i < num_maps; ++i) {
    shapes.SetOutput(i, packed, shapes.Input(i + 1, 3), packed);
  }
}

// ----------------------------------------------------------------------------------------- kernels

// x and y of each map's upper left corner, one pair after the other.
using Corners = std::vector<int64_t>;

void* NewKernel(TF_OpKernelConstruction* context) {
  Status status(TF_NewStatus());
  int32_t length = 0, total = 0;
  TF_OpKernelConstruction_GetAttrSize(context, "corners", &length, &total, status.get());
  if (IsOk(status) && (length < 0 || length > 2 * kMaxMaps)) {
    const std::string message = "corners: expected at most " + std::to_string(2 * kMaxMaps) +
                                " numbers, got " + std::to_string(length);
    TF_SetStatus(status.get(), TF_INVALID_ARGUMENT, message.c_str());
  }
  auto corners = std::make_unique<Corners>(IsOk(status) ? length : 0);
  if (!corners->empty()) {
    TF_OpKernelConstruction_GetAttrInt64List(context, "corners", corners->data(), length,
                                             status.get());
  }
  if (IsOk(status)) return corners.release();
  TF_OpKernelConstruction_Failure(context, status.get());
  return nullptr;
}

void DeleteKernel(void* kernel) { delete static_cast<Corners*>(kernel); }

// One call of a kernel. The first error is reported to TensorFlow; later steps then do nothing.
class Call {
 public:
  Call(void* kernel, TF_OpKernelContext* context)
      : corners_(*static_cast<Corners*>(kernel)), context_(context), status_(TF_NewStatus()) {}

  ~Call() {
    if (!ok()) TF_OpKernelContext_Failure(context_, status_.get());
  }

  bool ok() const { return IsOk(status_); }

  void Require(bool condition, const std::string& message) {
    if (ok() && !condition) TF_SetStatus(status_.get(), TF_INVALID_ARGUMENT, message.c_str());
  }

  // The input; null after an error.
  Tensor Input(int index, int rank) {
    TF_Tensor* raw = nullptr;
    if (ok()) TF_GetInput(context_, index, &raw, status_.get());
    Tensor tensor(ok() ? raw : nullptr);
    if (ok()) {
      const int found = TF_NumDims(raw);
      Require(found == rank, "input " + std::to_string(index) + " must have " +
                                 std::to_string(rank) + " dimensions, got " +
                                 std::to_string(found));
    }
    return tensor;
  }

  Tensor Output(int index, int64_t batch, int64_t height, int64_t width, int64_t channels) {
    const TF_DataType type = TF_ExpectedOutputDataType(context_, index);
    const int64_t dims[] = {batch, height, width, channels};
    size_t bytes = TF_DataTypeSize(type);
    for (const int64_t dim : dims) bytes *= dim;
    return Tensor(ok() ? TF_AllocateOutput(context_, index, type, dims, 4, bytes, status_.get())
                       : nullptr);
  }

  // Empty boxes of the number of maps, with their corners.
  std::vector<Box> Boxes(int num_maps) {
    Require(static_cast<int64_t>(corners_.size()) == 2 * int64_t{num_maps},
            "corners must be x and y of each of " + std::to_string(num_maps) + " maps, got " +
                std::to_string(corners_.size()) + " numbers");
    std::vector<Box> boxes(num_maps);
    for (int i = 0; ok() && i < num_maps; ++i) boxes[i] = {corners_[2 * i], corners_[2 * i + 1], 0, 0};
    return boxes;
  }

  // The canvas, once boxes are known to lie in it and its size in bytes to be a number.
  Canvas Check(const std::vector<Box>& boxes, int64_t batch, int64_t height, int64_t width,
               int64_t channels) {
    if (!ok()) return {};
    const std::string error = LayoutError(boxes, height, width);
    Require(error.empty(), error);
    const int64_t item = TF_DataTypeSize(TF_ExpectedOutputDataType(context_, 0));
    int64_t bytes = item;
    for (const int64_t dim : {batch, height, width, channels}) {
      const bool overflows = __builtin_mul_overflow(bytes, dim > 0 ? dim : 1, &bytes);
      Require(!overflows, "the packed map is too large to be addressed");
    }
    return {batch, height, width, ok() ? channels * item : 0};
  }

  int num_inputs() const { return TF_NumInputs(context_); }

 private:
  const Corners& corners_;
  TF_OpKernelContext* context_;
  Status status_;
};

void Pack(void* kernel, TF_OpKernelContext* context) {
  Call call(kernel, context);
  const int num_maps = call.num_inputs() - 1;
  std::vector<Box> boxes = call.Boxes(num_maps);
  std::vector<Tensor> tensors;
  std::vector<const char*> maps;
  int64_t batch = 0, channels = 0;
  for (int i = 0; call.ok() && i < num_maps; ++i) {
    tensors.push_back(call.Input(i, 4));
    if (!call.ok()) return;
    const TF_Tensor* map = tensors.back().get();
    if (i == 0) batch = TF_Dim(map, 0), channels = TF_Dim(map, 3);
    call.Require(TF_Dim(map, 0) == batch && TF_Dim(map, 3) == channels,
                 "all maps must have the batch size and channels of map 0, " +
                     std::to_string(batch) + " and " + std::to_string(channels) + "; map " +
                     std::to_string(i) + " has " + std::to_string(TF_Dim(map, 0)) + " and " +
                     std::to_string(TF_Dim(map, 3)));
    boxes[i].height = TF_Dim(map, 1);
    boxes[i].width = TF_Dim(map, 2);
    maps.push_back(static_cast<const char*>(TF_TensorData(map)));
  }
  const Tensor size = call.Input(num_maps, 3);
  if (!call.ok()) return;
  const Canvas canvas =
      call.Check(boxes, batch, TF_Dim(size.get(), 0), TF_Dim(size.get(), 1), channels);
  if (!call.ok()) return;
  const Tensor packed = call.Output(0, batch, canvas.height, canvas.width, channels);
  if (!call.ok()) return;
  PackMaps(canvas, boxes, maps, static_cast<char*>(TF_TensorData(packed.get())));
}

void Unpack(void* kernel, TF_OpKernelContext* context) {
  Call call(kernel, context);
  const int num_maps = call.num_inputs() - 1;
  std::vector<Box> boxes = call.Boxes(num_maps);
  for (int i = 0; call.ok() && i < num_maps; ++i) {
    const Tensor size = call.Input(i + 1, 3);
    if (!call.ok()) return;
    boxes[i].height = TF_Dim(size.get(), 0);
    boxes[i].width = TF_Dim(size.get(), 1);
  }
  const Tensor packed = call.Input(0, 4);
  if (!call.ok()) return;
  const int64_t batch = TF_Dim(packed.get(), 0), channels = TF_Dim(packed.get(), 3);
  const Canvas canvas =
      call.Check(boxes, batch, TF_Dim(packed.get(), 1), TF_Dim(packed.get(), 2), channels);
  std::vector<Tensor> tensors;
  std::vector<char*> maps;
  for (int i = 0; call.ok() && i < num_maps; ++i) {
    tensors.push_back(call.Output(i, batch, boxes[i].height, boxes[i].width, channels));
    if (!call.ok()) return;
    maps.push_back(static_cast<char*>(TF_TensorData(tensors.back().get())));
  }
  if (!call.ok()) return;
  UnpackMaps(canvas, boxes, static_cast<const char*>(TF_TensorData(packed.get())), maps);
}

// ------------------------------------------------------------------------------------ registration

void DefinePack(const Status& status) {
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder("TfdetPack");
  TF_OpDefinitionBuilderAddAttr(op, "N: int >= 1");
  TF_OpDefinitionBuilderAddAttr(op, "T: {float, half, bfloat16}");
  TF_OpDefinitionBuilderAddAttr(op, "corners: list(int)");
  TF_OpDefinitionBuilderAddInput(op, "maps: N * T");
  TF_OpDefinitionBuilderAddInput(op, "size: int8");
  TF_OpDefinitionBuilderAddOutput(op, "packed: T");
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, PackShape);
  TF_RegisterOpDefinition(op, status.get());
}

void DefineUnpack(const Status& status) {
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder("TfdetUnpack");
  TF_OpDefinitionBuilderAddAttr(op, "N: int >= 1");
  TF_OpDefinitionBuilderAddAttr(op, "T: {float, half, bfloat16}");
  TF_OpDefinitionBuilderAddAttr(op, "corners: list(int)");
  TF_OpDefinitionBuilderAddInput(op, "packed: T");
  TF_OpDefinitionBuilderAddInput(op, "sizes: N * int8");
  TF_OpDefinitionBuilderAddOutput(op, "maps: N * T");
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, UnpackShape);
  TF_RegisterOpDefinition(op, status.get());
}

using Compute = void (*)(void*, TF_OpKernelContext*);

void RegisterCpuKernel(const char* op, Compute compute, const Status& status) {
  // No constraint on T: the kernels move bytes.
  TF_KernelBuilder* kernel = TF_NewKernelBuilder(op, "CPU", NewKernel, compute, DeleteKernel);
  TF_RegisterKernelBuilder(op, kernel, status.get());
}

bool Register() {
  const Status status(TF_NewStatus());
  DefinePack(status);
  if (IsOk(status)) DefineUnpack(status);
  if (IsOk(status)) RegisterCpuKernel("TfdetPack", Pack, status);
  if (IsOk(status)) RegisterCpuKernel("TfdetUnpack", Unpack, status);
  return IsOk(status);
}

}  // namespace
}  // namespace tfdet

// TensorFlow calls this once when it loads the library and reports what it finds registered.
static const bool is_registered = tfdet::Register();
