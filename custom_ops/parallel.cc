#include "parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <system_error>
#include <thread>

namespace tfdet {
namespace {

int NumThreads() {
  if (const char* text = std::getenv("TFDET_PACK_THREADS")) {
    return std::clamp(std::atoi(text), 1, 64);
  }
  return std::clamp<int>(std::thread::hardware_concurrency(), 1, 8);
}

class Pool {
 public:
  Pool() {
    for (int i = 1; i < NumThreads(); ++i) {
      try {
        std::thread([this] { Loop(); }).detach();
        ++helpers_;
      } catch (const std::system_error&) {
        break;  // no more threads to be had: those there are do the work
      }
    }
  }

  // False, and nothing done, where the threads work for another call or there are none.
  bool Run(int64_t count, const std::function<void(int64_t)>& body) {
    std::unique_lock<std::mutex> only_call(calls_, std::try_to_lock);
    if (!only_call.owns_lock() || helpers_ == 0) return false;
    Job job{body, count};
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      ++generation_;
    }
    wake_.notify_all();
    job.Work();
    std::unique_lock<std::mutex> lock(mutex_);
    // Whoever has not woken up by now is not waited for: a core may be busy with something else.
    job_ = nullptr;
    idle_.wait(lock, [this] { return working_ == 0; });
    return true;
  }

 private:
  struct Job {
    const std::function<void(int64_t)>& body;
    const int64_t count;
    std::atomic<int64_t> next{0};

    void Work() {
      for (int64_t i = next++; i < count; i = next++) body(i);
    }
  };

  void Loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    uint64_t seen = 0;
    while (true) {
      wake_.wait(lock, [&] { return job_ != nullptr && generation_ != seen; });
      seen = generation_;
      Job* job = job_;
      ++working_;
      lock.unlock();
      job->Work();
      lock.lock();
      if (--working_ == 0) idle_.notify_one();
    }
  }

  std::mutex calls_, mutex_;
  std::condition_variable wake_, idle_;
  Job* job_ = nullptr;
  uint64_t generation_ = 0;
  int working_ = 0;
  int helpers_ = 0;
};

std::atomic<Pool*> pool{nullptr};

// Never destroyed: a thread may still sleep in it while the process ends. After a fork the child
// has none of the threads, so it makes its own.
Pool* GetPool() {
  static std::mutex* making = new std::mutex;
  if (Pool* made = pool.load(std::memory_order_acquire)) return made;
  std::unique_lock<std::mutex> lock(*making, std::try_to_lock);
  if (!lock.owns_lock()) return nullptr;
  if (Pool* made = pool.load()) return made;
  static const int registered = pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); });
  if (registered != 0) return nullptr;
  Pool* made = new Pool;
  pool.store(made, std::memory_order_release);
  return made;
}

}  // namespace

void ParallelFor(int64_t count, const std::function<void(int64_t)>& body) {
  if (count > 1) {
    Pool* threads = GetPool();
    if (threads != nullptr && threads->Run(count, body)) return;
  }
  for (int64_t i = 0; i < count; ++i) body(i);
}

}  // namespace tfdet
