// What training rests on, against the plain way to compute it: a loss that never holds its logits,
// packed examples, batches that are added up, a run that goes on, the optimizer (T-12, T-13, T-14,
// T-16, T-22 of the training tests). In F64, where a missing term or a wrong divisor cannot hide in
// rounding.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "engine/host.hpp"
#include "engine/model/autograd.h"
#include "engine/model/extensions.h"
#include "engine/model/loss.h"
#include "engine/torch_ops.h"
#include "plugins/trainer/adamw.h"
#include "plugins/trainer/sgd.h"
#include "tests/support.h"

namespace engine::tests {
namespace {

using Doubles = std::vector<double>;

ops::Tensor Random(const ops::Ints& sizes, uint32_t seed) {
  ops::Tensor t = ops::Empty(sizes, ENGINE_F64);
  std::mt19937 random(seed);
  for (int64_t i = 0; i < t.numel(); ++i) {
    ops::Data<double>(t)[i] = static_cast<double>(random() % 2001) / 1000 - 1;
  }
  return t;
}

ops::Tensor Ids(const std::vector<std::vector<int64_t>>& rows) {
  const auto length = static_cast<int64_t>(rows[0].size());
  ops::Tensor t = ops::Empty({static_cast<int64_t>(rows.size()), length}, ENGINE_I64);
  for (size_t r = 0; r < rows.size(); ++r) {
    std::copy(rows[r].begin(), rows[r].end(),
              ops::Data<int64_t>(t) + static_cast<int64_t>(r) * length);
  }
  return t;
}

Doubles Values(const ops::Tensor& t) {
  const ops::Tensor flat = ops::Contiguous(ops::Detach(t));
  return Doubles(ops::Data<double>(flat), ops::Data<double>(flat) + flat.numel());
}

Doubles Grad(const ops::Tensor& leaf) {
  AtenTensorHandle handle = nullptr;
  EXPECT_EQ(model::AutogradHost()->grad_of(leaf.get(), &handle), nullptr);
  return handle == nullptr ? Doubles() : Values(ops::Tensor(handle));
}

void ExpectNear(const Doubles& a, const Doubles& b, double bound) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], bound) << "at " << i;
}

// --- the loss by chunks --------------------------------------------------------------------------

struct HeadResult {
  double loss;
  Doubles x, w, unused;
};

// The loss of x·Wᵀ over the rows that count, scaled by 3, and its gradients. `most` sees how many
// rows of logits there were at once.
HeadResult Head(const std::vector<int64_t>& labels, int64_t chunk, int64_t* most) {
  const auto rows = static_cast<int64_t>(labels.size());
  const ops::Tensor x = Random({rows, 8}, 1), w = Random({11, 8}, 2), unused = Random({2}, 3);
  for (const ops::Tensor& t : {x, w, unused}) ops::SetRequiresGrad(t, true);
  std::vector<std::vector<int64_t>> counted(1), wanted(1);
  for (int64_t i = 0; i < rows; ++i) {
    if (labels[static_cast<size_t>(i)] < 0) continue;
    counted[0].push_back(i);
    wanted[0].push_back(labels[static_cast<size_t>(i)]);
  }
  std::optional<ops::Tensor> sum;
  *most = 0;
  if (chunk == 0) {
    sum = ops::CrossEntropySum(ops::Linear(x, w), ops::Reshape(Ids({labels}), {-1}));
  } else {
    const Status status = model::LossByChunks(
        x, ops::Reshape(Ids(counted), {-1}), ops::Reshape(Ids(wanted), {-1}), {w, unused}, chunk,
        [&](const ops::Tensor& some, const ops::Tensor& of, std::optional<ops::Tensor>* out) {
          *most = std::max(*most, some.size(0));
          *out = ops::CrossEntropySum(ops::Linear(some, w), of);
          return Status();
        },
        &sum);
    EXPECT_TRUE(status.ok()) << status.message();
  }
  const ops::Tensor scaled = ops::Scale(*sum, 3);
  EXPECT_EQ(model::AutogradHost()->backward(scaled.get(), nullptr), nullptr);
  return {Values(*sum)[0], Grad(x), Grad(w), Grad(unused)};
}

TEST(LossByChunks, IsTheWholeLossAndItsGradients) {
  std::vector<int64_t> labels(50);
  for (size_t i = 0; i < labels.size(); ++i) {
    // The rows from 16 to 32 do not count at all.
    labels[i] = i % 3 == 0 || (i >= 16 && i < 32) ? -100 : static_cast<int64_t>(i * 7 % 11);
  }
  int64_t most = 0;
  const HeadResult whole = Head(labels, 0, &most);
  for (const int64_t chunk : {1, 4, 7, 1000}) {
    const HeadResult parts = Head(labels, chunk, &most);
    EXPECT_LE(most, chunk);
    EXPECT_NEAR(parts.loss, whole.loss, 1e-12);
    ExpectNear(parts.x, whole.x, 1e-12);
    ExpectNear(parts.w, whole.w, 1e-12);
    EXPECT_TRUE(parts.unused.empty());
  }
}

TEST(LossByChunks, NothingThatCountsIsALossOfZero) {
  const ops::Tensor x = Random({4, 8}, 1), none = ops::Empty({0}, ENGINE_I64);
  std::optional<ops::Tensor> sum;
  const Status status = model::LossByChunks(
      x, none, none, {}, 4,
      [](const ops::Tensor&, const ops::Tensor&, std::optional<ops::Tensor>*) {
        return Error(ENGINE_INTERNAL, "called for no row");
      },
      &sum);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(Values(*sum)[0], 0);
}

// --- packed examples -----------------------------------------------------------------------------

class Packing : public testing::Test {
 protected:
  Packing() {
    WriteToyModel(folder_.Path("toy"));
    chain_ =
        std::make_unique<Chain>("resource { name: \"base\" load { path: \"" + folder_.Path("toy") +
                                "\" dtype: F64 } }\n"
                                "resource { name: \"tuned\" from: \"base\" lora { rank: 4 } }\n");
    EXPECT_TRUE(chain_->status().ok()) << chain_->status().message();
    // B begins as zeros, which would hide what goes through A.
    for (const model::Param& p : Model().params()) {
      if (!p.trainable) continue;
      ops::Tensor into = ops::Detach(*p.tensor);
      ops::CopyInto(into, ops::Scale(Random(ops::Sizes(into), 9), 0.1));
    }
  }
  model::Model& Model() { return chain_->At("tuned"); }

  struct Result {
    double loss = 0;
    std::map<std::string, Doubles> grads;
  };
  Result Loss(const std::vector<std::vector<int64_t>>& ids,
              const std::vector<std::vector<int64_t>>& labels,
              const std::vector<std::vector<int64_t>>& example) {
    for (const model::Param& p : Model().params()) {
      if (!p.trainable) continue;
      EXPECT_EQ(model::AutogradHost()->clear_grad(p.tensor->get()), nullptr);
    }
    std::optional<ops::Tensor> sum, of;
    int64_t count = 0;
    if (!example.empty()) of = Ids(example);
    const Status status =
        Model().Loss(Ids(ids), Ids(labels), {.example = of ? &*of : nullptr}, &sum, &count);
    EXPECT_TRUE(status.ok()) << status.message();
    Result result;
    if (!status.ok()) return result;
    result.loss = Values(*sum)[0];
    EXPECT_EQ(model::AutogradHost()->backward(sum->get(), nullptr), nullptr);
    for (const model::Param& p : Model().params()) {
      if (p.trainable) result.grads[p.name] = Grad(*p.tensor);
    }
    return result;
  }

 private:
  TempFolder folder_;
  std::unique_ptr<Chain> chain_;
};

TEST_F(Packing, ExamplesOfARowAreAsIfEachWereAlone) {
  const std::vector<std::vector<int64_t>> examples = {
      {5, 17, 200, 31}, {9, 8, 7, 6, 5, 4}, {101, 102, 103}};
  const auto labels_of = [](const std::vector<int64_t>& ids) {
    std::vector<int64_t> labels(ids.begin() + 1, ids.end());
    labels.push_back(-100);
    return labels;
  };
  Result alone;
  for (const auto& ids : examples) {
    const Result one = Loss({ids}, {labels_of(ids)}, {});
    alone.loss += one.loss;
    for (const auto& [name, grad] : one.grads) {
      Doubles& sum = alone.grads[name];
      sum.resize(grad.size());
      for (size_t i = 0; i < grad.size(); ++i) sum[i] += grad[i];
    }
  }
  // Two in the first row, one and the filling in the second.
  std::vector<std::vector<int64_t>> ids(2), labels(2), example(2);
  for (size_t e = 0; e < examples.size(); ++e) {
    const size_t row = e / 2;
    const std::vector<int64_t> l = labels_of(examples[e]);
    ids[row].insert(ids[row].end(), examples[e].begin(), examples[e].end());
    labels[row].insert(labels[row].end(), l.begin(), l.end());
    example[row].insert(example[row].end(), l.size(), static_cast<int64_t>(e % 2));
  }
  ids[1].resize(ids[0].size(), 0);
  labels[1].resize(ids[0].size(), -100);
  example[1].resize(ids[0].size(), -1);
  const Result packed = Loss(ids, labels, example);
  EXPECT_NEAR(packed.loss, alone.loss, 1e-10);
  for (const auto& [name, grad] : packed.grads) ExpectNear(grad, alone.grads[name], 1e-10);

  // Without saying which is which they differ: the comparison can fail.
  EXPECT_GT(std::abs(Loss(ids, labels, {}).loss - alone.loss), 1e-6);

  // Another example's tokens change nothing, to the bit.
  for (int64_t& label : labels[1]) label = -100;
  std::fill(labels[0].begin(), labels[0].begin() + 4, -100);
  const Result second = Loss(ids, labels, example);
  ids[0][2] = 77;
  ids[1][0] = 78;
  const Result other = Loss(ids, labels, example);
  EXPECT_EQ(other.loss, second.loss);
  EXPECT_EQ(other.grads, second.grads);
}

TEST_F(Packing, NumbersThatGoBackAreRefused) {
  std::optional<ops::Tensor> sum;
  int64_t count = 0;
  const ops::Tensor ids = Ids({{1, 2, 3, 4}}), example = Ids({{1, 1, 0, 0}});
  const Status status = Model().Loss(ids, ids, {.example = &example}, &sum, &count);
  EXPECT_EQ(status.code(), ENGINE_INVALID_ARGUMENT);
  EXPECT_NE(std::string(status.message()).find("not in order: 0 follows 1"), std::string::npos)
      << status.message();
}

// --- the optimizer -------------------------------------------------------------------------------

const engine_tasks kSerial = {sizeof(engine_tasks), 0, [] { return 1u; },
                              [](int64_t count, int64_t, void (*body)(void*, int64_t, int64_t),
                                 void* arg) { body(arg, 0, count); }};

// The largest distance from torch.optim.AdamW, when the second group's ratio is `ratio`.
double FromTorch(const nlohmann::json& want, double ratio) {
  ThisHost().tasks = &kSerial;
  std::vector<trainer::Optimizer::Param> params;
  for (size_t p = 0; p < want["params"].size(); ++p) {
    const ops::Tensor t = ops::Empty(want["params"][p]["shape"].get<ops::Ints>(), ENGINE_F64);
    for (int64_t i = 0; i < t.numel(); ++i) {
      ops::Data<double>(t)[i] = std::sin(static_cast<double>(i + 1) + 10 * static_cast<double>(p));
    }
    params.push_back({t, p == 0 ? 1.0 : ratio});
  }
  trainer::AdamW optimizer({want["beta1"], want["beta2"], want["eps"], want["weight_decay"]});
  const Status status = optimizer.Init(params);
  EXPECT_TRUE(status.ok()) << status.message();
  double apart = 0;
  size_t seen = 0;
  for (int step = 0; step < want["steps"]; ++step) {
    std::vector<ops::Tensor> grads;
    for (size_t p = 0; p < params.size(); ++p) {
      grads.push_back(ops::Empty(ops::Sizes(params[p].tensor), ENGINE_F64));
      for (int64_t i = 0; i < grads[p].numel(); ++i) {
        // Twice as large, and halved by the optimizer's factor.
        ops::Data<double>(grads[p])[i] =
            2 * std::sin(0.7 * static_cast<double>(i) + 0.3 * step + static_cast<double>(p)) /
            (1 + 0.1 * step);
      }
    }
    optimizer.Step(grads, 0.5, want["lr"]);
    if ((step + 1) % want["every"].get<int>() != 0) continue;
    const nlohmann::json& values = want["values"][seen++];
    for (size_t p = 0; p < params.size(); ++p) {
      const Doubles now = Values(params[p].tensor);
      EXPECT_EQ(now.size(), values[p].size());
      for (size_t i = 0; i < now.size(); ++i) {
        apart = std::max(apart, std::abs(now[i] - values[p][i].get<double>()));
      }
    }
  }
  EXPECT_EQ(seen, 5u);
  return apart;
}

TEST(Optimizer, IsTorchsOverFiftyStepsOfTwoGroups) {
  const auto want = nlohmann::json::parse(ReadFile(ENGINE_SOURCE_DIR "/tests/data/adamw.json"));
  EXPECT_LT(FromTorch(want, 16), 1e-12);
  EXPECT_GT(FromTorch(want, 15), 1e-3);
}

TEST(Optimizer, DescendsWithMomentum) {
  ThisHost().tasks = &kSerial;
  for (const double momentum : {0.0, 0.9}) {
    const ops::Tensor p = Random({5}, 1), grad = Random({5}, 2);
    Doubles want = Values(p), velocity(5, 0);
    trainer::Sgd optimizer(momentum, 0.1);
    ASSERT_TRUE(optimizer.Init({{p, 2.0}}).ok());
    EXPECT_EQ(optimizer.States(0).size(), momentum == 0 ? 0u : 1u);
    for (int step = 0; step < 3; ++step) {
      optimizer.Step({grad}, 0.5, 0.01);
      for (size_t i = 0; i < 5; ++i) {
        velocity[i] = momentum * velocity[i] + 0.5 * Values(grad)[i];
        want[i] = want[i] * (1 - 0.02 * 0.1) - 0.02 * velocity[i];
      }
    }
    ExpectNear(Values(p), want, 1e-15);
  }
}

// --- whole runs ----------------------------------------------------------------------------------

class Runs : public testing::Test {
 protected:
  Runs() {
    WriteToyModel(Path("toy"));
    std::ofstream data(Path("data.jsonl"));
    // Completions of 1 to 9 tokens: batches whose labels differ much in number.
    for (int i = 0; i < 24; ++i) {
      data << R"({"prompt": "p)" << i << R"(", "completion": ")"
           << std::string(static_cast<size_t>(1 + i * 5 % 9), static_cast<char>('a' + i % 9))
           << "\"}\n";
    }
  }
  std::string Path(const std::string& name) const { return folder_.Path(name); }

  struct Lines {
    std::vector<std::string> steps;  // without what time decides
    std::string adapter;             // bytes of its tensors
    Status status;
  };
  Lines Run(const std::string& name, const std::string& dataset, const std::string& trainer,
            const std::string& lora = "rank: 4") {
    Lines out;
    std::filesystem::remove(Path(name + ".jsonl"));
    out.status = RunPipeline(
        "resource { name: \"base\" load { path: \"" + Path("toy") + "\" dtype: F64 } }\n" +
        "resource { name: \"tuned\" from: \"base\" lora { " + lora + " } }\n" +
        "node { name: \"data\" dataset { path: \"" + Path("data.jsonl") +
        "\" epochs: 0 sequence: 32 " + dataset + " } use: \"tuned\" out: \"batches\" }\n" +
        "node { name: \"train\" trainer { out: \"" + Path(name) + "\" " + trainer +
        " } in: \"batches\" use: \"tuned\" out: \"steps\" }\n" +
        "node { name: \"log\" train_log { path: \"" + Path(name + ".jsonl") +
        "\" } in: \"steps\" }\n");
    std::istringstream lines(ReadFile(Path(name + ".jsonl")));
    for (std::string line; std::getline(lines, line);) {
      auto j = nlohmann::ordered_json::parse(line);
      j.erase("seconds");
      j.erase("peak_bytes");
      out.steps.push_back(j.dump());
    }
    if (out.status.ok()) out.adapter = ReadFile(Path(name + "/adapter_model.safetensors"));
    return out;
  }
  static double Loss(const std::string& line) { return nlohmann::json::parse(line)["loss"]; }

 private:
  TempFolder folder_;
};

TEST_F(Runs, BatchesThatAreAddedUpAreOneLargeBatch) {
  const Lines one = Run("one", "batch: 6 shuffle: false", "steps: 5 lr: 1e-2");
  const Lines six = Run("six", "batch: 1 shuffle: false", "steps: 5 lr: 1e-2 accumulate: 6");
  ASSERT_TRUE(one.status.ok() && six.status.ok()) << one.status.message() << six.status.message();
  ASSERT_EQ(one.steps.size(), 5u);
  ASSERT_EQ(six.steps.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(Loss(one.steps[i]), Loss(six.steps[i]), 1e-12) << "step " << i + 1;
  }
  // A mean of means, as it was long done elsewhere, is another number.
  const Lines apart = Run("apart", "batch: 1 shuffle: false", "steps: 6 lr: 0");
  double mean = 0;
  for (const std::string& line : apart.steps) mean += Loss(line) / 6;
  EXPECT_GT(std::abs(mean - Loss(one.steps[0])), 1e-4);
  EXPECT_LT(Loss(one.steps[4]), Loss(one.steps[0])) << "nothing is learnt";
}

TEST_F(Runs, GoingOnIsAsNeverHavingStopped) {
  const std::string data = "batch: 3 seed: 7 pack: FILL", lora = "rank: 4 dropout: 0.2";
  const std::string train =
      "lr: 1e-2 accumulate: 2 schedule: COSINE warmup_ratio: 0.2 max_grad_norm: 0.5 ";
  const Lines whole = Run("whole", data, train + "steps: 9", lora);
  ASSERT_TRUE(whole.status.ok()) << whole.status.message();
  ASSERT_EQ(whole.steps.size(), 9u);

  // Stopped after 4 of 9 steps, in the middle of the fifth: the fifth batch is let in, no sixth.
  const std::string kept = " checkpoints: \"" + Path("kept") + "\" save_every: 2 ";
  const std::string resume = " resume: \"" + Path("kept") + "\" ";
  const Lines first = Run("first", data + resume + "limit: 9", train + kept + "steps: 9", lora);
  ASSERT_TRUE(first.status.ok()) << first.status.message();
  EXPECT_EQ(first.steps, std::vector<std::string>(whole.steps.begin(), whole.steps.begin() + 4));
  const Lines second = Run("second", data + resume, train + kept + "steps: 9", lora);
  ASSERT_TRUE(second.status.ok()) << second.status.message();
  EXPECT_EQ(second.steps, std::vector<std::string>(whole.steps.begin() + 4, whole.steps.end()));
  EXPECT_TRUE(second.adapter == whole.adapter) << "the adapters differ";
  // Without dropout the run is another one: what it draws is part of what goes on.
  const Lines dry = Run("dry", data, train + "steps: 9");
  EXPECT_NE(Loss(dry.steps.at(3)), Loss(whole.steps.at(3)));
  // Two are kept, and nothing half written.
  size_t folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(Path("kept"))) {
    folders += entry.is_directory();
  }
  EXPECT_EQ(folders, 2u);

  // Another place in the data is noticed.
  const Lines astray = Run("astray", data + " start: 1", train + kept + "steps: 12");
  EXPECT_FALSE(astray.status.ok());
  EXPECT_NE(std::string(astray.status.message()).find("give the dataset the same folder as resume"),
            std::string::npos)
      << astray.status.message();
  // So is the state of another adapter, and what is no state at all.
  std::ofstream(Path("kept/latest.json")) << "{}";
  const Lines nonsense = Run("nonsense", data, train + kept + "steps: 12");
  EXPECT_NE(std::string(nonsense.status.message()).find("latest.json' is none of the format"),
            std::string::npos)
      << nonsense.status.message();
}

TEST_F(Runs, BranchesOfDifferentRanksAreSavedAndLoaded) {
  const std::string lora =
      "rank: 4 alpha: 8 rslora: true rank_pattern: \"q_proj=6\" "
      "rank_pattern: \"model.layers.2.mlp.*=2\" alpha_pattern: \"up_proj=32\"";
  const Lines run = Run("mixed", "batch: 2", "steps: 3 lr: 1e-2", lora);
  ASSERT_TRUE(run.status.ok()) << run.status.message();
  const std::string base =
      "resource { name: \"base\" load { path: \"" + Path("toy") + "\" dtype: F64 } }\n";
  Chain made(base + "resource { name: \"tuned\" from: \"base\" lora { " + lora + " } }\n");
  Chain loaded(base + "resource { name: \"tuned\" from: \"base\" lora { adapter: \"" +
               Path("mixed") + "\" } }\n");
  ASSERT_TRUE(loaded.status().ok()) << loaded.status().message();
  std::map<std::pair<uint32_t, double>, int> kinds;
  for (uint32_t i = 0; i < loaded.At("tuned").sites().size(); ++i) {
    const auto* want = model::Ask<engine_low_rank>(made.At("tuned").impl(i), ENGINE_EXT_LOW_RANK);
    const auto* got = model::Ask<engine_low_rank>(loaded.At("tuned").impl(i), ENGINE_EXT_LOW_RANK);
    ASSERT_EQ(want == nullptr, got == nullptr);
    if (want == nullptr) continue;
    EXPECT_EQ(got->rank, want->rank);
    EXPECT_NEAR(got->scale, want->scale, 1e-12 * want->scale);
    ++kinds[{want->rank, std::round(want->scale * 1e6)}];
  }
  EXPECT_EQ(kinds.size(), 5u) << "plain, q_proj, up_proj, and the third block's two";

  const Lines wrong = Run("wrong", "batch: 2", "steps: 3", "rank_pattern: \"q_porj=6\"");
  EXPECT_NE(std::string(wrong.status.message()).find("pattern \"q_porj\" matches no linear"),
            std::string::npos)
      << wrong.status.message();
  const Lines none = Run("none", "batch: 2", "steps: 3", "rank_pattern: \"q_proj=0\"");
  EXPECT_NE(std::string(none.status.message()).find("\"q_proj=0\" is no exception such as"),
            std::string::npos)
      << none.status.message();
}

TEST_F(Runs, GroupsOfParametersHaveRatesOfTheirOwn) {
  const auto halves = [&](const std::string& name, const std::string& trainer) {
    const Lines run = Run(name, "batch: 3", "steps: 1 weight_decay: 0.1 " + trainer);
    EXPECT_TRUE(run.status.ok()) << run.status.message();
    Chain chain("resource { name: \"base\" load { path: \"" + Path("toy") +
                "\" dtype: F64 } }\nresource { name: \"tuned\" from: \"base\" lora { adapter: \"" +
                Path(name) + "\" } }\n");
    EXPECT_TRUE(chain.status().ok()) << chain.status().message();
    const std::string site = "model.layers.1.mlp.up_proj.lora_";
    model::Model& model = chain.At("tuned");
    return std::pair(Values(*model.FindParam(site + "A.weight")->tensor),
                     Values(*model.FindParam(site + "B.weight")->tensor));
  };
  // B begins as zeros, so that its first step is its rate alone; A's is the decay.
  const auto plain = halves("plain", "lr: 1e-3");
  const auto faster = halves("faster", "lr: 1e-3 group_lr: \"adapter.b=16\"");
  EXPECT_EQ(faster.first, plain.first);
  ASSERT_EQ(faster.second.size(), plain.second.size());
  for (size_t i = 0; i < plain.second.size(); ++i) {
    EXPECT_NEAR(faster.second[i], 16 * plain.second[i], 1e-15);
  }
  EXPECT_NE(halves("other", "lr: 1e-3 group_lr: \"adapter.a=16\"").first, plain.first);

  const Lines unknown = Run("unknown", "batch: 3", "steps: 1 group_lr: \"adapter.c=2\"");
  EXPECT_NE(std::string(unknown.status.message()).find("there are: adapter.a, adapter.b"),
            std::string::npos)
      << unknown.status.message();
}

TEST_F(Runs, AParameterThatDoesNotTrainIsNamed) {
  const Lines run = Run("none", "batch: 3", "steps: 3", "rank: 4 alpha: 0");
  EXPECT_NE(std::string(run.status.message())
                .find("parameter 'model.layers.0.self_attn.q_proj.lora_A.weight' had no gradient"),
            std::string::npos)
      << run.status.message();
}

}  // namespace
}  // namespace engine::tests
