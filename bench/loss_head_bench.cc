// Times the loss head of a training step forward and back, and the memory that it takes beyond its
// inputs: rows of hidden states through the weight of the head to the sum of cross-entropies and
// the gradient of the rows. One way a process, so that the peaks do not mix; prints one JSON
// object.
//   loss_head_bench chunked|whole|plain [threads [repeats]]
// chunked: as training does, some rows at a time. whole: the same with all rows at once. plain:
// LibTorch's linear and cross_entropy, recorded by autograd.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "engine/kernels/isa.h"
#include "engine/model/autograd.h"
#include "engine/model/loss.h"
#include "engine/model/model.h"
#include "engine/torch_ops.h"
#include "engine/util.hpp"

namespace engine::model {
namespace {

using ops::Tensor;

constexpr int64_t kRows = 2048, kHidden = 576, kVocab = 49152;

Tensor Random(const ops::Ints& sizes, float deviation, uint32_t seed) {
  const Tensor t = ops::Empty(sizes, ENGINE_F32);
  std::mt19937 gen(seed);
  std::normal_distribution<float> draw(0, deviation);
  std::generate_n(ops::Data<float>(t), t.numel(), [&] { return draw(gen); });
  return t;
}

struct Pass {
  double loss, grad;  // the sum, and the sum of the gradient's absolute values
};

Status Run(const std::string& way, const Tensor& x, const Tensor& weight, const Tensor& rows,
           const Tensor& labels, Pass* out) {
  const engine_autograd* host = AutogradHost();
  std::optional<Tensor> sum;
  if (way == "plain") {
    sum = ops::CrossEntropySum(ops::Linear(x, weight), labels);
  } else {
    LinearParts head;
    head.weight = weight;
    const int64_t chunk = way == "chunked" ? LossChunk(kVocab) : rows.size(0);
    ENGINE_RETURN_IF_ERROR(FusedLoss(x, rows, labels, head, 0, chunk, &sum));
  }
  ENGINE_RETURN_IF_ERROR(Status(host->backward(sum->get(), nullptr)));
  AtenTensorHandle grad = nullptr;
  ENGINE_RETURN_IF_ERROR(Status(host->grad_of(x.get(), &grad)));
  if (grad == nullptr) return Error(ENGINE_INTERNAL, "the rows have no gradient");
  const Tensor absolute = ops::Sum(ops::Abs(Tensor(grad)));
  *out = {*ops::Data<float>(ops::Detach(*sum)), *ops::Data<float>(absolute)};
  return Status(host->clear_grad(x.get()));
}

int Main(int argc, char** argv) {
  const std::string way = argc > 1 ? argv[1] : "";
  if (way != "chunked" && way != "whole" && way != "plain") {
    std::fprintf(stderr, "usage: loss_head_bench chunked|whole|plain [threads [repeats]]\n");
    return 2;
  }
  const int threads = std::max(1, argc > 2 ? std::atoi(argv[2]) : 2);
  const int repeats = std::max(1, argc > 3 ? std::atoi(argv[3]) : 5);
  SetComputeThreads(threads);
  // As a loaded model does in F32: LibTorch's own team would take the cores from the kernels' pool.
  if (way != "plain") SetTorchThreads(1);
  const Tensor weight = Random({kVocab, kHidden}, 0.05f, 1), x = Random({kRows, kHidden}, 1, 2);
  ops::SetRequiresGrad(x, true);
  const Tensor rows = ops::Empty({kRows}, ENGINE_I64), labels = ops::Empty({kRows}, ENGINE_I64);
  std::mt19937 gen(3);
  for (int64_t i = 0; i < kRows; ++i) {
    ops::Data<int64_t>(rows)[i] = i;
    ops::Data<int64_t>(labels)[i] = static_cast<int64_t>(gen() % kVocab);
  }
  // Libraries and threads take what they need before anything counts.
  Pass pass = {};
  const Tensor few = Random({16, kHidden}, 1, 4);
  ops::SetRequiresGrad(few, true);
  Status status =
      Run(way, few, weight, ops::Narrow(rows, 0, 0, 16), ops::Narrow(labels, 0, 0, 16), &pass);
  std::ofstream("/proc/self/clear_refs") << "5";  // VmHWM begins again
  const uint64_t before = ProcessBytes("VmRSS:");
  std::vector<double> times;
  for (int i = 0; i < repeats + 1 && status.ok(); ++i) {
    const uint64_t begin = NowNs();
    status = Run(way, x, weight, rows, labels, &pass);
    if (i > 0) times.push_back(static_cast<double>(NowNs() - begin) * 1e-9);
  }
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return 1;
  }
  std::sort(times.begin(), times.end());
  std::printf(
      "{\"way\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"rows\": %lld, \"hidden\": %lld, "
      "\"vocab\": %lld, \"seconds\": %.6f, \"best\": %.6f, \"peak_bytes\": %llu, \"loss\": %.9g, "
      "\"gradient\": %.9g}\n",
      way.c_str(), kernels::IsaReport().c_str(), threads, static_cast<long long>(kRows),
      static_cast<long long>(kHidden), static_cast<long long>(kVocab), times[times.size() / 2],
      times[0], static_cast<unsigned long long>(PeakBytes() - before), pass.loss, pass.grad);
  return 0;
}

}  // namespace
}  // namespace engine::model

int main(int argc, char** argv) { return engine::model::Main(argc, argv); }
