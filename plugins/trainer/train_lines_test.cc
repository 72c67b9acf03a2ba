#include "train_lines.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace engine::trainer {
namespace {

class TrainLinesTest : public testing::Test {
 protected:
  ~TrainLinesTest() override { std::remove(path_.c_str()); }
  // "kept steps; bytes" of a file with that text.
  std::string Kept(const std::string& text, uint32_t next) const {
    std::ofstream(path_, std::ios::binary) << text;
    const KeptLines kept = LinesBefore(path_, next);
    std::string out;
    for (const CurvePoint& p : kept.points) out += std::to_string(p.step) + " ";
    return out + "in " + std::to_string(kept.bytes);
  }
  const std::string path_ =
      testing::TempDir() + "train_lines_" + std::to_string(getpid()) + ".jsonl";
};

std::string Line(int step) {
  return "{\"step\":" + std::to_string(step) + ",\"loss\":1.5,\"lr\":0.1}\n";
}

TEST_F(TrainLinesTest, StepsBeforeTheNextAreKept) {
  const std::string three = Line(1) + Line(2) + Line(3);
  const std::string bytes = std::to_string(Line(1).size() * 2);
  EXPECT_EQ(Kept(three, 3), "1 2 in " + bytes);
  EXPECT_EQ(Kept(three, 1), "in 0") << "a run that begins anew keeps nothing";
  EXPECT_EQ(Kept(three, 9), "1 2 3 in " + std::to_string(three.size()));
  EXPECT_EQ(LinesBefore(path_ + ".nowhere", 9).bytes, 0u);
  ASSERT_EQ(Kept(Line(7), 9), "7 in " + std::to_string(Line(7).size()));
  EXPECT_EQ(LinesBefore(path_, 9).points[0].loss, 1.5);
  EXPECT_EQ(LinesBefore(path_, 9).points[0].lr, 0.1);
}

TEST_F(TrainLinesTest, WhatIsNoLineOfARunEndsThem) {
  const std::string one = "1 in " + std::to_string(Line(1).size());
  const std::string torn = Line(2).substr(0, Line(2).size() - 1);
  EXPECT_EQ(Kept(Line(1) + torn, 9), one) << "no end of the line";
  for (const std::string& bad :
       {std::string("\n"), std::string("[]\n"), std::string("{\"step\":\n"),
        std::string("{\"step\":-2,\"loss\":1,\"lr\":1}\n"),
        std::string("{\"step\":2.5,\"loss\":1,\"lr\":1}\n"),
        std::string("{\"step\":18446744073709551615,\"loss\":1,\"lr\":1}\n"),
        std::string("{\"step\":2,\"loss\":\"1\",\"lr\":1}\n"), Line(1), Line(0),
        std::string(1 << 20, ' ') + "\n", std::string("\xff\xfe\0\n", 4)}) {
    EXPECT_EQ(Kept(Line(1) + bad + Line(3), 9), one) << bad.substr(0, 60);
  }
}

}  // namespace
}  // namespace engine::trainer
