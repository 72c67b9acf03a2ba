// Every operator of engine/torch_ops.h against LibTorch's own, values and gradients; and the host's
// autograd service: custom backward, recomputation, modes.
#include "engine/torch_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>

#include "engine/model/autograd.h"
#include "engine/model/torch_ops_reference.h"
#include "engine/status.hpp"

namespace engine::model {
namespace {

using ops::Tensor;

Tensor Filled(const ops::Ints& sizes, double phase) {
  const Tensor t = ops::Empty(sizes, ENGINE_F64);
  for (int64_t i = 0; i < t.numel(); ++i) {
    ops::Data<double>(t)[i] = std::sin(phase + 1.3 * static_cast<double>(i)) * 1.5;
  }
  return t;
}

Tensor Ids(const std::vector<int64_t>& values) {
  const Tensor t = ops::Empty({static_cast<int64_t>(values.size())}, ENGINE_I64);
  std::copy(values.begin(), values.end(), ops::Data<int64_t>(t));
  return t;
}

std::vector<double> Values(const Tensor& t) {
  const Tensor c = ops::Contiguous(ops::To(ops::Detach(t), ENGINE_F64));
  return std::vector<double>(ops::Data<double>(c), ops::Data<double>(c) + c.numel());
}

std::vector<double> GradOf(const Tensor& t) {
  AtenTensorHandle handle = nullptr;
  EXPECT_EQ(AutogradHost()->grad_of(t.get(), &handle), nullptr);
  if (handle == nullptr) return {};
  return Values(Tensor(handle));
}

using T = const std::vector<Tensor>&;
Tensor OneMore(const Tensor& x) { return ops::Add(ops::Mul(x, x), ops::Number(1.0, ENGINE_F64)); }
const std::map<std::string, std::function<Tensor(T)>>& Functions() {
  static const std::map<std::string, std::function<Tensor(T)>> functions = {
      {"Add", [](T x) { return ops::Add(x[0], x[1]); }},
      {"AddScaled", [](T x) { return ops::AddScaled(x[0], x[1], 0.3); }},
      {"Sub", [](T x) { return ops::Sub(x[0], x[1]); }},
      {"Mul", [](T x) { return ops::Mul(x[0], x[1]); }},
      {"Scale", [](T x) { return ops::Scale(x[0], 1.7); }},
      {"Div", [](T x) { return ops::Div(x[0], OneMore(x[1])); }},
      {"Neg", [](T x) { return ops::Neg(x[0]); }},
      {"Abs", [](T x) { return ops::Abs(x[0]); }},
      {"Exp", [](T x) { return ops::Exp(x[0]); }},
      {"Log", [](T x) { return ops::Log(OneMore(x[0])); }},
      {"Sqrt", [](T x) { return ops::Sqrt(OneMore(x[0])); }},
      {"Rsqrt", [](T x) { return ops::Rsqrt(OneMore(x[0])); }},
      {"Sigmoid", [](T x) { return ops::Sigmoid(x[0]); }},
      {"Tanh", [](T x) { return ops::Tanh(x[0]); }},
      {"Relu", [](T x) { return ops::Relu(x[0]); }},
      {"Silu", [](T x) { return ops::Silu(x[0]); }},
      {"Matmul", [](T x) { return ops::Matmul(x[0], ops::Transpose(x[1], 0, 1)); }},
      {"Linear", [](T x) { return ops::Linear(x[0], x[1]); }},
      {"Softmax", [](T x) { return ops::Softmax(x[0], 1); }},
      {"LogSoftmax", [](T x) { return ops::LogSoftmax(x[0], 1); }},
      {"Mean", [](T x) { return ops::Mean(x[0], {1}, true); }},
      {"Sum", [](T x) { return ops::Sum(x[0], {0}, false); }},
      {"Amax", [](T x) { return ops::Amax(x[0], {1}, false); }},
      {"Reshape",
       [](T x) {
         return ops::Reshape(x[0], {2, -1});
       }},
      {"Permute",
       [](T x) {
         return ops::Contiguous(ops::Permute(x[0], {1, 0}));
       }},
      {"Narrow", [](T x) { return ops::Narrow(x[0], 1, 1, 3); }},
      {"Cat",
       [](T x) {
         return ops::Cat({x[0], x[1]}, 1);
       }},
      {"Stack",
       [](T x) {
         return ops::Stack({x[0], x[1]}, 0);
       }},
      {"Expand",
       [](T x) {
         return ops::Expand(ops::Unsqueeze(x[0], 0), {3, 4, 6});
       }},
      {"Where",
       [](T x) {
         const Tensor positive = ops::Eq(ops::Detach(x[0]), ops::Abs(ops::Detach(x[0])));
         return ops::Where(positive, x[0], x[1]);
       }},
      {"Attention",
       [](T x) {
         const Tensor k = ops::Narrow(ops::Reshape(x[1], {1, 2, 4, 3}), 1, 0, 1);
         return ops::CausalAttention(ops::Reshape(x[0], {1, 2, 4, 3}), k, k);
       }},
      {"CrossEntropy",
       [](T x) {
         return ops::CrossEntropySum(x[0], Ids({1, 5, -100, 0}));
       }},
      {"Embedding",
       [](T x) {
         return ops::Embedding(x[0], Ids({3, 0, 3}));
       }},
  };
  return functions;
}

class Operators : public testing::TestWithParam<std::string> {};

TEST_P(Operators, ValuesAndGradientsAreLibTorchsOwn) {
  const std::vector<Tensor> inputs = {Filled({4, 6}, 0.2), Filled({4, 6}, 1.1)};
  const std::vector<AtenTensorHandle> want =
      Reference(GetParam(), {inputs[0].get(), inputs[1].get()});
  for (const Tensor& t : inputs) ops::SetRequiresGrad(t, true);
  const Tensor result = Functions().at(GetParam())(inputs);
  const Tensor loss = ops::Sum(ops::Mul(result, result));
  const Status status(AutogradHost()->backward(loss.get(), nullptr));
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(Values(result), Values(Tensor(want[0])));
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::vector<double> reference =
        want[i + 1] == nullptr ? std::vector<double>() : Values(Tensor(want[i + 1]));
    EXPECT_EQ(GradOf(inputs[i]), reference) << "input " << i;
  }
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& [name, function] : Functions()) names.push_back(name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(All, Operators, testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

TEST(Operators, AFailureSaysWhatIsWrong) {
  const Tensor a = Filled({2, 3}, 0), b = Filled({4, 5}, 0);
  try {
    ops::Matmul(a, b);
    FAIL() << "shapes that do not fit were multiplied";
  } catch (const std::exception& e) {
    EXPECT_NE(std::string(e.what()).find("shape"), std::string::npos) << e.what();
  }
}

// y = x^3 with its own backward; `state` counts the calls.
struct Cube {
  int forward = 0, backward = 0, freed = 0;
  static engine_status* Forward(void* s, const AtenTensorHandle* in, uint32_t,
                                AtenTensorHandle* out, uint32_t) {
    return Guard([&] {
      ++static_cast<Cube*>(s)->forward;
      const Tensor x = ops::Borrow(in[0]);
      out[0] = ops::Release(ops::Mul(x, ops::Mul(x, x)));
      return Status();
    });
  }
  static engine_status* Backward(void* s, const AtenTensorHandle* in, uint32_t n,
                                 AtenTensorHandle* out, uint32_t) {
    return Guard([&] {
      EXPECT_EQ(n, 2u);
      ++static_cast<Cube*>(s)->backward;
      const Tensor x = ops::Borrow(in[0]), dy = ops::Borrow(in[1]);
      out[0] = ops::Release(ops::Scale(ops::Mul(dy, ops::Mul(x, x)), 3.0));
      return Status();
    });
  }
  static void Free(void* s) { ++static_cast<Cube*>(s)->freed; }
};

TEST(Autograd, ACustomFunctionGivesItsOwnGradientAndIsFreedOnce) {
  Cube cube;
  const Tensor x = Filled({5}, 0.4);
  ops::SetRequiresGrad(x, true);
  {
    AtenTensorHandle handle = x.get(), out = nullptr;
    ASSERT_EQ(AutogradHost()->apply(&Cube::Forward, &Cube::Backward, &cube, &Cube::Free, &handle, 1,
                                    &out, 1),
              nullptr);
    const Tensor y(out);
    EXPECT_EQ(cube.freed, 0);
    const Tensor loss = ops::Sum(y);
    ASSERT_EQ(AutogradHost()->backward(loss.get(), nullptr), nullptr);
  }
  EXPECT_EQ(cube.forward, 1);
  EXPECT_EQ(cube.backward, 1);
  EXPECT_EQ(cube.freed, 1);
  std::vector<double> want;
  for (double v : Values(x)) want.push_back(v * v * 3.0);
  EXPECT_EQ(GradOf(x), want);
}

TEST(Autograd, ACheckpointRunsAgainAndReachesParametersWithoutInputsThatAsk) {
  struct State {
    Tensor w;
    int runs = 0;
  } state{Filled({3, 5}, 0.9)};
  ops::SetRequiresGrad(state.w, true);
  const auto fn = [](void* s, const AtenTensorHandle* in, uint32_t, AtenTensorHandle* out,
                     uint32_t) -> engine_status* {
    return Guard([&] {
      auto& st = *static_cast<State*>(s);
      ++st.runs;
      out[0] = ops::Release(ops::Silu(ops::Linear(ops::Borrow(in[0]), st.w)));
      return Status();
    });
  };
  const Tensor x = Filled({2, 5}, 0.1);
  const auto grad = [&](bool recompute) {
    EXPECT_EQ(AutogradHost()->clear_grad(state.w.get()), nullptr);
    AtenTensorHandle in = x.get(), w = state.w.get(), out = nullptr;
    engine_status* status =
        recompute ? AutogradHost()->checkpoint(fn, &state, nullptr, &in, 1, &w, 1, &out, 1)
                  : fn(&state, &in, 1, &out, 1);
    EXPECT_EQ(status, nullptr);
    const Tensor y(out);
    const Tensor loss = ops::Sum(ops::Mul(y, y));
    EXPECT_EQ(AutogradHost()->backward(loss.get(), nullptr), nullptr);
    return GradOf(state.w);
  };
  const std::vector<double> plain = grad(false);
  state.runs = 0;
  EXPECT_EQ(grad(true), plain);
  EXPECT_EQ(state.runs, 2);
}

TEST(Autograd, AFailureOfAPluginsFunctionComesBackAsItsStatus) {
  const auto fails = [](void*, const AtenTensorHandle*, uint32_t, AtenTensorHandle*,
                        uint32_t) -> engine_status* {
    return engine::internal::NewStatus(ENGINE_INVALID_ARGUMENT, "the widths do not fit");
  };
  const Tensor x = Filled({2}, 0);
  AtenTensorHandle in = x.get(), out = nullptr;
  const Status status(AutogradHost()->apply(fails, fails, nullptr, nullptr, &in, 1, &out, 1));
  EXPECT_NE(status.message().find("the widths do not fit"), std::string_view::npos);
}

TEST(Autograd, ModesAreSetAndGivenBack) {
  uint32_t before = 9;
  ASSERT_EQ(AutogradHost()->set_mode(ENGINE_GRAD_NO_GRAD, &before), nullptr);
  EXPECT_EQ(before, static_cast<uint32_t>(ENGINE_GRAD_TRAIN));
  const Tensor x = Filled({2}, 0);
  ops::SetRequiresGrad(x, true);
  const Tensor loss = ops::Sum(x);
  const Status nothing(AutogradHost()->backward(loss.get(), nullptr));
  EXPECT_EQ(nothing.code(), ENGINE_FAILED_PRECONDITION);
  ASSERT_EQ(AutogradHost()->set_mode(before, &before), nullptr);
  EXPECT_EQ(before, static_cast<uint32_t>(ENGINE_GRAD_NO_GRAD));
  const Status unknown(AutogradHost()->set_mode(7, &before));
  EXPECT_EQ(unknown.code(), ENGINE_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace engine::model
