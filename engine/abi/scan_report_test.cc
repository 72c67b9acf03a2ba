// What the scanner takes of a report that is not as its child writes it: a plugin that prints to
// any descriptor it finds may be in between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/abi/scanner.h"

namespace engine::abi {
namespace {

using ::testing::HasSubstr;

// Verdicts on two files by a child that reports these lines for each of its starts.
std::vector<Verdict> ScanOf(const std::string& lines) {
  ScanOptions options;
  options.command = {"/bin/sh", "-c", "printf '" + lines + "' >&3", "sh"};
  std::string trouble;
  std::vector<Verdict> verdicts = Scan(options, {"a.so", "b.so"}, &trouble);
  EXPECT_EQ(trouble, "");
  return verdicts;
}

constexpr char kReady[] = R"({"ready":true}\n)";

TEST(ScanReportTest, AFileIsNotDoneWithoutAVerdict) {
  for (const char* lines : {R"({"file":0,"done":true}\n)",
                            // The line with the verdict was spoiled by another.
                            R"({"file":0,"refused":{"because":noise}}\n{"file":0,"done":true}\n)",
                            R"({"file":0,"refused":{"because":""}}\n{"file":0,"done":true}\n)"}) {
    const auto verdicts = ScanOf(std::string(kReady) + lines);
    for (const Verdict& verdict : verdicts) {
      EXPECT_EQ(verdict.kind, Verdict::Kind::kRefused) << lines;
      EXPECT_THAT(verdict.refusal.reason, HasSubstr("it called exit(0)"));
    }
  }
}

TEST(ScanReportTest, WhatDoesNotFitIsNotTaken) {
  const auto verdicts =
      ScanOf(std::string(R"({"file":0,"harmless":true}\n)") + kReady +
             R"([]\nnoise\n{"file":1,"harmless":true}\n{"file":-1}\n{"file":0,"step":1e300}\n)"
             R"({"file":0,"refused":{"because":"x","kinds":[1]}}\n{"file":0,"kinds":["k"]}\n)"
             R"({"file":0,"step":77}\n)");
  for (const Verdict& verdict : verdicts) {
    EXPECT_EQ(verdict.kind, Verdict::Kind::kRefused);
    EXPECT_TRUE(verdict.refusal.kinds.empty());
    EXPECT_THAT(verdict.refusal.reason, HasSubstr("it called exit(0)"));
  }
}

}  // namespace
}  // namespace engine::abi
