// A loop on several cores. TensorFlow's C kernel API gives no access to TensorFlow's own threads.

#ifndef TFDET_CUSTOM_OPS_PARALLEL_H_
#define TFDET_CUSTOM_OPS_PARALLEL_H_

#include <cstdint>
#include <functional>

namespace tfdet {

// Calls body(i) once for every i in [0, count) and returns when all calls have returned.
//
// The calling thread works too. Threads are started at the first call, one less than there are
// cores but at most seven, since a few cores use up the bandwidth of the memory; the environment
// variable TFDET_PACK_THREADS sets another number. A call that finds them at work for another call
// runs on its own thread alone.
void ParallelFor(int64_t count, const std::function<void(int64_t)>& body);

}  // namespace tfdet

#endif  // TFDET_CUSTOM_OPS_PARALLEL_H_
