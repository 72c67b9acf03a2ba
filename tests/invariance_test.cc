// Section 8 of the design, "one arithmetic per format": the logits of a sequence are the same bits
// whoever shares its steps, its pages and its time with it. Random serving is compared, row by row,
// with each sequence alone in one step of another load of the same file. Each event counts itself,
// so that a storm in which it never happened fails, and the comparison is shown to see a sum in
// another order, one bit of a page, and two pages swapped.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "engine/kernels/isa.h"
#include "engine/kernels/pool.h"
#include "engine/model/extensions.h"
#include "engine/util.hpp"
#include "tests/serving.h"
#include "tests/storm.h"
#include "tests/support.h"

namespace engine::tests {
namespace {

// ---- the small model: every format of weights, keys and values, every road ---------------------

using Setting = std::tuple<std::string, std::string>;  // format of weights, road
class Invariance : public testing::TestWithParam<Setting> {};

TEST_P(Invariance, NothingAroundASequenceChangesABit) {
  const auto& [name, road_name] = GetParam();
  const Road road(road_name);
  if (!road.there()) GTEST_SKIP() << "this machine has no " << road_name;
  const WeightFormat& format = FormatNamed(name);
  TempFolder folder;
  WriteSmallModel(folder.Path("m.gguf"), format.stored);
  Weather weather;
  // The plain road does one number at a time.
  const bool plain = road_name == "plain";
  if (plain) {
    weather = {.prompts = 7, .longest = 132, .answers = 6, .widths = {1, 2, 7}, .calm = 8};
  }
  if (road_name == "avx2") weather.prompts = 30;
  if (road_name == "avx512") weather.prompts = 72;
  Seen all;
  for (const std::string kv : kKvFormats) {
    SCOPED_TRACE("keys and values in " + kv);
    ++weather.seed;
    // So little room that sequences are in each other's way, but once room for all.
    const std::string budget = kv == "F32"   ? (plain ? "600KiB" : "3MiB")
                               : kv == "F16" ? "16MiB"
                                             : (plain ? "250KiB" : "900KiB");
    // Pages of another size hold the same numbers.
    const std::string pages = kv == "F16" ? " page_tokens: 48" : "";
    const Seen seen = Serve(ChainText(folder.Path("m.gguf"), format, Kv(kv, budget) + pages),
                            ChainText(folder.Path("m.gguf"), format, Kv(kv, "16MiB")), weather,
                            folder.Path("session"));
    all.rows += seen.rows;
    all.widest = std::max(all.widest, seen.widest);
    for (const auto& [field, event] : kEvents) all.*field += seen.*field;
    for (int threads : {1, 2}) EXPECT_GT(seen.threads[threads], 0u);
  }
  EXPECT_GE(all.widest, std::min<size_t>(64, weather.prompts * 3 / 4));
  for (const auto& [field, event] : kEvents) EXPECT_GT(all.*field, 0u) << event;
  RecordProperty("rows", static_cast<int>(all.rows));
}

std::vector<std::string> FormatNames() {
  std::vector<std::string> names;
  for (const WeightFormat& f : WeightFormats()) {
    // Decoded blocks are floats like any others.
    if (std::string(f.name) != "Q4_1_decoded") names.push_back(f.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Formats, Invariance,
                         testing::Combine(testing::ValuesIn(FormatNames()),
                                          testing::Values("plain", "avx2", "avx512")),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param);
                         });

// ---- what must be seen --------------------------------------------------------------------------

class Variance : public testing::TestWithParam<std::string> {};

std::vector<int32_t> SomeTokens(uint32_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& t : tokens) t = static_cast<int32_t>(random() % SmallModel::kVocab);
  return tokens;
}

// The same function with its inner dimensions in another order: only sums are added in another
// order. What differs is rounding, and the comparison of the storms sees it.
TEST_P(Variance, ASumInAnotherOrderIsSeen) {
  const WeightFormat& format = FormatNamed(GetParam());
  TempFolder folder;
  WriteSmallModel(folder.Path("m.gguf"), Stored::kF32);
  WriteSmallModel(folder.Path("other.gguf"), Stored::kF32, /*reordered=*/true);
  Chain chain(ChainText(folder.Path("m.gguf"), format, Kv("F32", "16MiB")));
  Chain again(ChainText(folder.Path("m.gguf"), format, Kv("F32", "16MiB")));
  Chain other(ChainText(folder.Path("other.gguf"), format, Kv("F32", "16MiB")));
  ASSERT_TRUE(other.status().ok()) << other.status().message();
  const std::vector<int32_t> tokens = SomeTokens(40, 3);
  const std::vector<float> want = Serving(&chain.At("kv")).Alone(tokens);
  EXPECT_EQ(FirstDifference(want, Serving(&again.At("kv")).Alone(tokens), SmallModel::kVocab), "");
  const std::vector<float> got = Serving(&other.At("kv")).Alone(tokens);
  EXPECT_NE(FirstDifference(want, got, SmallModel::kVocab), "");
  // It is rounding and no other function.
  EXPECT_LT(MostDifference(want, got), 3e-2);
}

// Formats whose arithmetic does not depend on which weights are neighbours.
INSTANTIATE_TEST_SUITE_P(Formats, Variance, testing::Values("F32", "BF16", "int8_per_channel"),
                         [](const auto& info) { return info.param; });

const engine_kv_view& FirstView(const model::Model& model) {
  for (uint32_t i = 0; i < model.sites().size(); ++i) {
    if (model.sites()[i].kind != ENGINE_SITE_KV_STORE) continue;
    return *model::Ask<engine_kv_view>(model.impl(i), ENGINE_EXT_KV_VIEW);
  }
  throw std::logic_error("no KV store");
}

TEST(Variance, OneBitOfAPageAndTwoPagesSwappedAreSeen) {
  TempFolder folder;
  WriteSmallModel(folder.Path("m.gguf"), Stored::kF32);
  Chain chain(ChainText(folder.Path("m.gguf"), FormatNamed("F32"), Kv("F32", "16MiB")));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  model::Model& model = chain.At("kv");
  Serving serving(&model);
  const std::vector<int32_t> tokens = SomeTokens(40, 5);
  const std::vector<float> want = serving.Alone(tokens, 39);

  Serving::Sequence s = serving.Open(tokens, {.share = false});
  const Serving::Part most{&s, 39, 0};
  serving.Step({&most, 1});
  const int32_t* blocks = nullptr;
  uint32_t count = 0;
  ASSERT_TRUE(
      Status(serving.pool()->sequence_blocks(serving.pool()->self, s.id, &blocks, &count)).ok());
  ASSERT_EQ(count, 3u);
  const auto last = [&](std::vector<int32_t> pages) {
    engine_step_sequence part = Sized<engine_step_sequence>();
    part.request = 1;
    part.tokens = tokens.data() + 39;
    part.token_count = part.logits_count = 1;
    part.start = 39;
    part.blocks = pages.data();
    part.block_count = count;
    const engine_step step = {sizeof(engine_step), 1, &part};
    std::vector<float> logits(SmallModel::kVocab);
    const Status status = model.Step(step, logits.data());
    EXPECT_TRUE(status.ok()) << status.message();
    return FirstDifference(want, logits, SmallModel::kVocab);
  };
  const std::vector<int32_t> pages(blocks, blocks + count);
  EXPECT_EQ(last(pages), "");
  EXPECT_NE(last({pages[1], pages[0], pages[2]}), "") << "two pages were swapped";
  EXPECT_EQ(last(pages), "");

  // The last bit of single values. Some drown in the sum over positions, not all of them do.
  const engine_kv_view& view = FirstView(model);
  auto* values = reinterpret_cast<uint32_t*>(static_cast<char*>(view.base) +
                                             static_cast<uint64_t>(pages[0]) * view.stride) +
                 SmallModel::kKvHeads * SmallModel::kHeadDim * view.page_tokens;
  int seen = 0;
  for (int i = 0; i < 64; ++i) {
    values[i] ^= 1;
    seen += !last(pages).empty();
    values[i] ^= 1;
  }
  EXPECT_GT(seen, 0);
  EXPECT_EQ(last(pages), "");
  serving.Close(&s);
}

// ---- after a restart ---------------------------------------------------------------------------

class Restart : public testing::TestWithParam<std::string> {};

// Half of a conversation is saved by one load of the model and gone on with by another.
TEST_P(Restart, ASessionGoesOnWhereItWasSaved) {
  const WeightFormat& format = FormatNamed(GetParam());
  TempFolder folder;
  WriteSmallModel(folder.Path("m.gguf"), format.stored);
  for (const std::string kv : kKvFormats) {
    SCOPED_TRACE(kv);
    const std::string text = ChainText(folder.Path("m.gguf"), format, Kv(kv, "4MiB"));
    const Serving::How how{.share = true, .session = "talk", .salt = ""};
    for (const uint32_t half : {1u, 16u, 77u}) {
      const std::vector<int32_t> tokens = SomeTokens(150, half);
      std::vector<float> want;
      {
        Chain before(text);
        ASSERT_TRUE(before.status().ok()) << before.status().message();
        Serving serving(&before.At("kv"));
        want = serving.Alone(tokens);
        Serving::Sequence s = serving.Open(tokens, how);
        const Serving::Part part{&s, half, 0};
        serving.Step({&part, 1});
        Must(serving.Keep(&s));
        Must(serving.SaveSession(how, folder.Path("talk")));
      }
      Chain after(text);
      Serving serving(&after.At("kv"));
      Must(serving.RestoreSession(how, folder.Path("talk")));
      Serving::Sequence s = serving.Open(tokens, how);
      EXPECT_EQ(s.cached, half);
      const Serving::Part rest{&s, 150 - half, 150 - half};
      const std::vector<float> got = serving.Step({&rest, 1});
      EXPECT_EQ(FirstDifference({want.data() + half * SmallModel::kVocab, got.size()}, got,
                                SmallModel::kVocab),
                "");
      serving.Close(&s);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Restart, testing::ValuesIn(FormatNames()),
                         [](const auto& info) { return info.param; });

// ---- the real model ----------------------------------------------------------------------------

struct Real {
  const char* name;
  WeightFormat format;
  const char* kv;
};
void PrintTo(const Real& real, std::ostream* out) { *out << real.name; }

class RealModelTest : public testing::TestWithParam<Real> {};

TEST_P(RealModelTest, NothingAroundASequenceChangesABit) {
  const Real& real = GetParam();
  TempFolder folder;
  Weather weather{
      .prompts = 6, .longest = 150, .answers = 5, .compared = 2, .widths = {1, 2, 6}, .seed = 31};
  // `make storm` asks for many, on each road.
  if (const char* prompts = std::getenv("ENGINE_STORM_PROMPTS")) {
    weather.prompts = std::strtoul(prompts, nullptr, 10);
    weather.widths = {1, 2, 6, 64};
  }
  const char* name = std::getenv("ENGINE_STORM_ROAD");
  const Road road(name != nullptr ? name : kernels::IsaName(kernels::ActiveIsa()));
  if (!road.there()) GTEST_SKIP() << "this machine has no " << name;
  const std::string text = ChainText(RealModel(), real.format, Kv(real.kv, "64MiB"));
  const Seen seen = Serve(text, text, weather, folder.Path("session"));
  EXPECT_GT(seen.rows, 15u);
  EXPECT_GT(seen.pieces, 0u);
  EXPECT_GE(seen.widest, 4u);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, RealModelTest,
    testing::Values(
        // The file stores Q4_1.
        Real{"stored_F32", FormatNamed("Q4_1"), "F32"},
        Real{"stored_F16", FormatNamed("Q4_1"), "F16"},
        Real{"stored_INT8", FormatNamed("Q4_1"), "INT8"},
        Real{"F32_F32", {"F32", Stored::kQ4_1, "weights: DECODED", nullptr}, "F32"},
        Real{"BF16_F16", {"BF16", Stored::kQ4_1, "dtype: BF16 weights: DECODED", nullptr}, "F16"},
        Real{"int8_groups_32_F32", FormatNamed("int8_groups_32"), "F32"},
        Real{"int8_groups_64_INT8", FormatNamed("int8_groups_64"), "INT8"},
        Real{"int8_per_channel_F16", FormatNamed("int8_per_channel"), "F16"},
        Real{"int8_calibrated_F32",
             {"int8_calibrated", Stored::kQ4_1, "",
              "scheme: PER_CHANNEL calibrate: \"" ENGINE_SOURCE_DIR
              "/LICENSE\" calibrate_tokens: 128"},
             "F32"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace engine::tests
