/* Detects objects in image files with a SavedModel that tfdet-export wrote.

   A C program that needs TensorFlow's C API and nothing else: no Python, no tfdet. The API is in
   the TensorFlow package of Python, which also has the headers; docs/tensorflow_serving.md has the
   commands that build and run this file.

       detect EXPORT [--effort=0.3] [--min_score=0.3] [--ops=LIBRARY] IMAGE ...

   Files that end in .ppm are decoded here and go to the signature serving_default, each by itself.
   All others go to serving_encoded as they are, in one batch. Prints a line for each detection:

       FILE  CLASS  SCORE  LEFT  TOP  RIGHT  BOTTOM

   and "FILE  not read, status N" for an image that cannot be decoded. --ops is the library of
   native operations, for exports with --native_ops: EXPORT/assets.extra/libtfdet_pack.so. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

#define MOST_FILES 64
#define NOT_GIVEN (-1.0f) /* leaves the effort, or the threshold, to the model */

static void fail(const char* what, const char* why) {
  fprintf(stderr, "detect: %s: %s\n", what, why);
  exit(1);
}

static void* must(void* memory) {
  if (memory == NULL) fail("memory", "there is too little");
  return memory;
}

/* -- Protocol buffers: enough to find names in the definition of a model. -- */

typedef struct {
  const uint8_t* at;
  const uint8_t* end;
} Span;

static uint64_t read_varint(Span* span) {
  uint64_t value = 0;
  for (int shift = 0; span->at < span->end && shift < 64; shift += 7) {
    uint8_t byte = *span->at++;
    value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return value;
  }
  fail("the export", "its definition is damaged");
  return 0;
}

/* Reads the next field; 0 at the end. `content` is empty but for strings and messages. */
static int next_field(Span* message, uint32_t* number, Span* content) {
  if (message->at >= message->end) return 0;
  uint64_t key = read_varint(message);
  uint64_t size = 0;
  *number = (uint32_t)(key >> 3);
  *content = (Span){NULL, NULL};
  switch (key & 7) {
    case 0: read_varint(message); return 1;
    case 1: size = 8; break;
    case 2: size = read_varint(message); break;
    case 5: size = 4; break;
    default: fail("the export", "its definition is damaged");
  }
  if (size > (uint64_t)(message->end - message->at)) fail("the export", "its definition is cut");
  *content = (Span){message->at, message->at + size};
  message->at += size;
  return 1;
}

static int is_text(Span span, const char* text) {
  size_t size = (size_t)(span.end - span.at);
  return size == strlen(text) && memcmp(span.at, text, size) == 0;
}

/* The value of `key` in the map that is field `number` of a message; empty where there is none. */
static Span value_in_map(Span message, uint32_t number, const char* key) {
  uint32_t found;
  Span entry;
  while (next_field(&message, &found, &entry)) {
    if (found != number) continue;
    Span name = {NULL, NULL}, value = {NULL, NULL}, part;
    uint32_t which;
    while (next_field(&entry, &which, &part)) {
      if (which == 1) name = part;
      if (which == 2) value = part;
    }
    if (is_text(name, key)) return value;
  }
  return (Span){NULL, NULL};
}

/* -- A model -- */

typedef struct {
  TF_Graph* graph;
  TF_Session* session;
  TF_Buffer* definition; /* a MetaGraphDef */
  TF_Status* status;
  TF_Tensor* class_names;
  float effort;
} Model;

enum { INPUTS = 1, OUTPUTS = 2 }; /* fields of a SignatureDef */
static const uint32_t kSignatures = 5, kTensorName = 1; /* of MetaGraphDef, TensorInfo */

static void check(const Model* model, const char* what) {
  if (TF_GetCode(model->status) != TF_OK) fail(what, TF_Message(model->status));
}

/* The tensor that a signature has under `name`; its `oper` is NULL where there is none. */
static TF_Output tensor_of(const Model* model, const char* signature, uint32_t side,
                           const char* name) {
  const uint8_t* data = model->definition->data;
  Span definition = {data, data + model->definition->length};
  Span info = value_in_map(value_in_map(definition, kSignatures, signature), side, name);
  uint32_t number;
  Span content;
  while (next_field(&info, &number, &content)) {
    if (number != kTensorName) continue;
    char text[512];
    size_t size = (size_t)(content.end - content.at);
    if (size >= sizeof text) fail(signature, "a name is too long");
    memcpy(text, content.at, size);
    text[size] = 0;
    char* colon = strrchr(text, ':'); /* OPERATION:INDEX */
    int index = colon ? atoi(colon + 1) : 0;
    if (colon) *colon = 0;
    return (TF_Output){TF_GraphOperationByName(model->graph, text), index};
  }
  return (TF_Output){NULL, 0};
}

static TF_Tensor* scalar(float value) {
  TF_Tensor* tensor = must(TF_AllocateTensor(TF_FLOAT, NULL, 0, sizeof value));
  memcpy(TF_TensorData(tensor), &value, sizeof value);
  return tensor;
}

/* Runs a signature on one input (or none, where `input` is NULL), for the outputs of `names`. */
static void run(const Model* model, const char* signature, const char* input, TF_Tensor* value,
                int count, const char* const* names, TF_Tensor** found) {
  TF_Output inputs[3], outputs[8];
  TF_Tensor* values[3];
  int given = 0;
  if (input) {
    inputs[given] = tensor_of(model, signature, INPUTS, input);
    if (inputs[given].oper == NULL) fail(signature, "the export has no such signature");
    values[given++] = value;
  }
  const char* const optional[] = {"threshold", "effort"}; /* of dynamic detectors */
  for (int i = 0; i < 2; ++i) {
    TF_Output place = tensor_of(model, signature, INPUTS, optional[i]);
    if (place.oper == NULL) continue;
    inputs[given] = place;
    values[given++] = scalar(i == 1 ? model->effort : NOT_GIVEN);
  }
  if (input && model->effort >= 0 && tensor_of(model, signature, INPUTS, "effort").oper == NULL)
    fail("--effort", "this export has no calibration");
  for (int i = 0; i < count; ++i) {
    outputs[i] = tensor_of(model, signature, OUTPUTS, names[i]);
    if (outputs[i].oper == NULL) fail(signature, "was not written by tfdet-export");
  }
  TF_SessionRun(model->session, NULL, inputs, values, given, outputs, found, count, NULL, 0, NULL,
                model->status);
  check(model, signature);
  for (int i = input ? 1 : 0; i < given; ++i) TF_DeleteTensor(values[i]);
}

static Model load(const char* folder, const char* library, float effort) {
  Model model = {.graph = TF_NewGraph(), .definition = TF_NewBuffer(), .status = TF_NewStatus()};
  model.effort = effort;
  if (library) { /* kept until the program ends */
    TF_LoadLibrary(library, model.status);
    check(&model, library);
  }
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* const tags[] = {"serve"};
  model.session = TF_LoadSessionFromSavedModel(options, NULL, folder, tags, 1, model.graph,
                                               model.definition, model.status);
  check(&model, folder);
  TF_DeleteSessionOptions(options);
  const char* const names[] = {"class_names"};
  run(&model, "metadata", NULL, NULL, 1, names, &model.class_names);
  return model;
}

static void unload(Model* model) {
  TF_DeleteTensor(model->class_names);
  TF_CloseSession(model->session, model->status);
  TF_DeleteSession(model->session, model->status);
  TF_DeleteGraph(model->graph);
  TF_DeleteBuffer(model->definition);
  TF_DeleteStatus(model->status);
}

/* -- Images -- */

typedef struct {
  char* data;
  size_t size;
} File;

static File read_file(const char* path) {
  FILE* stream = fopen(path, "rb");
  if (stream == NULL) fail(path, "cannot be opened");
  File file = {NULL, 0};
  size_t got = 0, room = 0;
  do {
    file.size += got;
    if (file.size == room) file.data = must(realloc(file.data, room = 2 * room + 65536));
    got = fread(file.data + file.size, 1, room - file.size, stream);
  } while (got > 0);
  fclose(stream);
  return file;
}

/* A PPM (P6, 8 bits, no comments) as uint8 [1, height, width, 3]. */
static TF_Tensor* read_ppm(const char* path) {
  File file = read_file(path);
  int width = 0, height = 0, most = 0, head = 0;
  file.data = must(realloc(file.data, file.size + 1));
  file.data[file.size] = 0;
  int read = sscanf(file.data, "P6 %d %d %d%n", &width, &height, &most, &head);
  if (read != 3 || most != 255 || width < 1 || height < 1 || width > 65535 || height > 65535)
    fail(path, "is not a PPM of 8 bits");
  size_t pixels = (size_t)width * (size_t)height * 3;
  if (file.size < (size_t)head + 1 + pixels) fail(path, "is cut");
  const int64_t shape[] = {1, height, width, 3};
  TF_Tensor* tensor = must(TF_AllocateTensor(TF_UINT8, shape, 4, pixels));
  memcpy(TF_TensorData(tensor), file.data + head + 1, pixels);
  free(file.data);
  return tensor;
}

static void free_strings(void* data, size_t size, void* unused) {
  (void)unused;
  for (size_t i = 0; i < size / sizeof(TF_TString); ++i) TF_StringDealloc((TF_TString*)data + i);
  free(data);
}

/* The contents of files as strings [count]. */
static TF_Tensor* read_encoded(int count, const char* const* paths) {
  TF_TString* strings = must(calloc((size_t)count, sizeof *strings));
  for (int i = 0; i < count; ++i) {
    File file = read_file(paths[i]);
    TF_StringInit(&strings[i]);
    TF_StringCopy(&strings[i], file.data, file.size);
    free(file.data);
  }
  const int64_t shape[] = {count};
  return must(TF_NewTensor(TF_STRING, shape, 1, strings, (size_t)count * sizeof *strings,
                           free_strings, NULL));
}

/* -- Detections -- */

static void print_found(const Model* model, TF_Tensor* const* found, int count,
                        const char* const* paths, float min_score) {
  const float *boxes = TF_TensorData(found[0]), *scores = TF_TensorData(found[1]);
  const int32_t *labels = TF_TensorData(found[2]), *counts = TF_TensorData(found[3]);
  const int32_t* status = found[4] ? TF_TensorData(found[4]) : NULL;
  const TF_TString* names = TF_TensorData(model->class_names);
  const int64_t most = TF_Dim(found[1], 1);
  for (int i = 0; i < count; ++i) {
    if (status && status[i]) printf("%s\tnot read, status %d\n", paths[i], (int)status[i]);
    for (int64_t j = i * most; j < i * most + counts[i]; ++j) {
      if (scores[j] < min_score) continue;
      const TF_TString* name = &names[labels[j]];
      printf("%s\t%.*s\t%.5f\t%.2f\t%.2f\t%.2f\t%.2f\n", paths[i], (int)TF_StringGetSize(name),
             TF_StringGetDataPointer(name), scores[j], boxes[4 * j], boxes[4 * j + 1],
             boxes[4 * j + 2], boxes[4 * j + 3]);
    }
  }
}

static void detect(const Model* model, const char* signature, const char* input, TF_Tensor* images,
                   int count, const char* const* paths, float min_score) {
  const char* const names[] = {"boxes", "scores", "labels", "count", "status"};
  TF_Tensor* found[5] = {NULL, NULL, NULL, NULL, NULL};
  const int outputs = strcmp(input, "encoded") == 0 ? 5 : 4;
  run(model, signature, input, images, outputs, names, found);
  print_found(model, found, count, paths, min_score);
  for (int i = 0; i < outputs; ++i) TF_DeleteTensor(found[i]);
  TF_DeleteTensor(images);
}

static int ends_with(const char* text, const char* end) {
  size_t size = strlen(text), tail = strlen(end);
  return size >= tail && strcmp(text + size - tail, end) == 0;
}

int main(int argc, char** argv) {
  const char *folder = NULL, *library = NULL, *encoded[MOST_FILES], *plain[MOST_FILES];
  int encoded_count = 0, plain_count = 0;
  float effort = NOT_GIVEN, min_score = 0.3f;
  for (int i = 1; i < argc; ++i) {
    if (strncmp(argv[i], "--ops=", 6) == 0) library = argv[i] + 6;
    else if (strncmp(argv[i], "--effort=", 9) == 0) effort = strtof(argv[i] + 9, NULL);
    else if (strncmp(argv[i], "--min_score=", 12) == 0) min_score = strtof(argv[i] + 12, NULL);
    else if (strncmp(argv[i], "--", 2) == 0) fail(argv[i], "there is no such flag");
    else if (folder == NULL) folder = argv[i];
    else if (encoded_count + plain_count == MOST_FILES) fail(argv[i], "too many files");
    else if (ends_with(argv[i], ".ppm")) plain[plain_count++] = argv[i];
    else encoded[encoded_count++] = argv[i];
  }
  if (encoded_count + plain_count == 0)
    fail("usage", "detect EXPORT [--effort=E] [--min_score=S] [--ops=LIBRARY] IMAGE ...");
  Model model = load(folder, library, effort);
  for (int i = 0; i < plain_count; ++i)
    detect(&model, "serving_default", "images", read_ppm(plain[i]), 1, &plain[i], min_score);
  if (encoded_count)
    detect(&model, "serving_encoded", "encoded", read_encoded(encoded_count, encoded),
           encoded_count, encoded, min_score);
  unload(&model);
  return 0;
}
