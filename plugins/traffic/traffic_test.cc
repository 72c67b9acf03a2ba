// The load description and the board, without a host.
#include <gtest/gtest.h>

#include <set>

#include "board.h"
#include "report.h"

namespace engine::traffic {
namespace {

TEST(Spec, ShortFormAndJsonSayTheSame) {
  Spec a, b;
  ASSERT_TRUE(
      ParseSpec("streams=16 prompt=128 out=10..20 prefix=512 turns=6 cancel=0.25 seed=7", &a).ok());
  ASSERT_TRUE(ParseSpec(R"({"streams": 16, "prompt": 128, "out": "10..20", "prefix": 512,
                            "turns": 6, "cancel": 0.25, "seed": 7})",
                        &b)
                  .ok());
  for (const Spec& s : {a, b}) {
    EXPECT_EQ(s.streams, 16u);
    EXPECT_EQ(s.requests, 16u);
    EXPECT_EQ(s.out.least, 10u);
    EXPECT_EQ(s.out.most, 20u);
    EXPECT_EQ(s.prompt.most, 128u);
    EXPECT_EQ(s.prefix, 512u);
    EXPECT_EQ(s.turns, 6u);
    EXPECT_EQ(s.cancel, 0.25);
    EXPECT_EQ(s.seed, 7u);
  }
}

TEST(Spec, MistakesAreNamed) {
  const auto message = [](const std::string& text) {
    Spec s;
    const Status status = ParseSpec(text, &s);
    return std::string(status.message());
  };
  EXPECT_NE(message("stream=3").find("there is no key 'stream'"), std::string::npos);
  EXPECT_NE(message("streams=-1").find("from 0 to"), std::string::npos);
  EXPECT_NE(message("prompt=5..2").find("lesser bound"), std::string::npos);
  EXPECT_NE(message("cancel=nan").find("from 0 to 1"), std::string::npos);
  EXPECT_NE(message("cancel=2").find("from 0 to 1"), std::string::npos);
  EXPECT_NE(message("fast").find("KEY=VALUE"), std::string::npos);
  EXPECT_NE(message("{\"out\": []}").find("number or a string"), std::string::npos);
  EXPECT_NE(message("{").find("no JSON object"), std::string::npos);
  EXPECT_NE(message("streams=0").find("rate"), std::string::npos);
  EXPECT_NE(message("@/no/such/file").find("cannot be read"), std::string::npos);
  EXPECT_NE(message("requests=1000000 turns=1000").find("4000000"), std::string::npos);
}

Spec Parsed(const std::string& text) {
  Spec s;
  EXPECT_TRUE(ParseSpec(text, &s).ok());
  return s;
}

TEST(Board, KeepsStreamsTurnsAndWavesInOrder) {
  Board board;
  board.Begin(Parsed("streams=2 requests=3 turns=2 out=4 waves=2 warmup=1 prompt=5"));
  std::vector<uint64_t> under_way;
  size_t sent = 0;
  uint32_t wave = 0;
  bool over = false;
  std::set<std::pair<uint32_t, uint32_t>> open;  // conversations under way
  while (!over) {
    uint64_t index = 0;
    while (under_way.size() < 2) {
      // Whether something may go is known at once here: nothing waits for a time.
      const size_t left_in_wave = 6 - sent % 6;
      if (under_way.size() == left_in_wave % 6 && sent % 6 != 0 && left_in_wave <= 2 &&
          sent % 6 == 0) {
        break;
      }
      const Board::Next next = board.Wait(&index);
      if (next != Board::Next::kRequest) break;
      const Record r = board.Get(index);
      EXPECT_GE(r.wave, wave);
      if (r.wave > wave) {
        EXPECT_TRUE(under_way.empty()) << "a wave began before the other was over";
      }
      wave = r.wave;
      EXPECT_TRUE(open.insert({r.wave, r.conversation}).second) << "two turns at once";
      under_way.push_back(index);
      ++sent;
    }
    ASSERT_FALSE(under_way.empty());
    ASSERT_LE(under_way.size(), 2u);
    index = under_way.front();
    under_way.erase(under_way.begin());
    const Record r = board.Get(index);
    for (int i = 0; i < 4; ++i) board.OnToken(index, i, r.sent_ns + 1000 * (i + 1), {});
    open.erase({r.wave, r.conversation});
    over = board.OnEnd(index, false, "", 0, 0, {});
  }
  EXPECT_EQ(sent, 3u * 3 * 2);
  uint64_t index = 0;
  EXPECT_EQ(board.Wait(&index), Board::Next::kDone);
  const auto report = MakeReport(board);
  EXPECT_EQ(report["waves"].size(), 2u);
  EXPECT_EQ(report["median"]["output_tokens"], 24);
}

TEST(Board, PromptsDifferButForTheirPrefix) {
  Board board;
  board.Begin(Parsed("streams=2 prefix=8 prompt=4 waves=2 warmup=0"));
  const auto a = board.Prompt(0, 320), b = board.Prompt(1, 320), c = board.Prompt(2, 320);
  ASSERT_EQ(a.size(), 12u);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 8, b.begin()));
  EXPECT_FALSE(std::equal(a.begin() + 8, a.end(), b.begin() + 8));
  EXPECT_FALSE(std::equal(a.begin(), a.begin() + 8, c.begin())) << "a wave finds another's prefix";
  for (int32_t id : a) {
    EXPECT_GE(id, 80);
    EXPECT_LT(id, 320);
  }
}

TEST(Report, FiguresOfTheWindowInWhichAllGenerate) {
  Board board;
  board.Begin(Parsed("streams=2 prompt=10 out=3 warmup=0"));
  uint64_t a = 0, b = 0;
  ASSERT_EQ(board.Wait(&a), Board::Next::kRequest);
  ASSERT_EQ(board.Wait(&b), Board::Next::kRequest);
  const uint64_t t = board.Get(a).sent_ns;
  const auto ms = [&](uint64_t n) { return t + n * 1'000'000; };
  // a gets tokens at 10, 30, 50 ms; b at 20, 40, 60; kernels work 8 of every 10 ms.
  for (uint64_t n = 10; n <= 60; n += 10) {
    const Moment moment{ms(n), n * 800'000};
    board.OnToken(n % 20 == 10 ? a : b, 1, ms(n), moment);
  }
  board.OnEnd(a, false, "", 4, 0, {ms(60), 48'000'000});
  EXPECT_TRUE(board.OnEnd(b, false, "", 0, 0, {ms(60), 48'000'000}));
  const auto wave = MakeReport(board)["waves"][0];
  // All generate from 20 to 50 ms: tokens at 30, 40 and 50.
  EXPECT_NEAR(wave["decode_tokens_per_s"].get<double>(), 100, 1e-6);
  EXPECT_NEAR(wave["engine_share"].get<double>(), 0.2, 1e-6);
  EXPECT_NEAR(wave["gap_ms_p50"].get<double>(), 20, 1e-6);
  EXPECT_EQ(wave["cached_tokens"], 4);
}

TEST(Report, TheChecksumTellsAnswersApart) {
  const auto checksum = [](int32_t id) {
    Board board;
    board.Begin(Parsed("streams=1 out=2 warmup=0"));
    uint64_t index = 0;
    EXPECT_EQ(board.Wait(&index), Board::Next::kRequest);
    board.OnToken(index, 5, 1000, {});
    board.OnToken(index, id, 2000, {});
    EXPECT_TRUE(board.OnEnd(index, false, "", 0, 0, {}));
    return MakeReport(board)["checksum"].get<std::string>();
  };
  EXPECT_EQ(checksum(6), checksum(6));
  EXPECT_NE(checksum(6), checksum(7));
}

TEST(Board, GivesUpAfterSomeTokens) {
  Board board;
  board.Begin(Parsed("streams=1 out=8 cancel=1 warmup=0"));
  uint64_t index = 0, given_up = 1;
  ASSERT_EQ(board.Wait(&index), Board::Next::kRequest);
  const uint32_t after = board.Get(index).cancel_after;
  ASSERT_GE(after, 1u);
  for (uint32_t i = 0; i < after; ++i) board.OnToken(index, 1, 1000 * (i + 1), {});
  EXPECT_EQ(board.Wait(&given_up), Board::Next::kCancel);
  EXPECT_EQ(given_up, index);
}

}  // namespace
}  // namespace engine::traffic
