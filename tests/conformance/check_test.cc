// engine plugin check: nothing is found in what is good, and each way to break the contract is
// found by the check that is for it, with its reason, while the engine goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/process.h"

namespace engine::tests {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

struct Found {
  json report;
  int code = 0;
};
Found Check(const std::string& file, std::vector<std::string> more = {}) {
  std::vector<std::string> words = {"plugin", "check", file, "--json"};
  words.insert(words.end(), more.begin(), more.end());
  const Outcome outcome = RunEngine(words);
  Found found{json::parse(outcome.out, nullptr, false), outcome.code};
  EXPECT_TRUE(found.report.is_object()) << outcome.out << outcome.err;
  return found;
}

struct Break {
  int number;
  const char *name, *kind, *check, *words;
};
void PrintTo(const Break& b, std::ostream* out) { *out << b.name; }

class BadTest : public testing::TestWithParam<Break> {};

TEST_P(BadTest, IsFound) {
  const Break& b = GetParam();
  // Few messages: crashes come early, and the check hangs as long as it is let.
  const Found found = Check(BAD_PLUGINS "/bad_" + std::to_string(b.number) + ".so",
                            {"--messages", "200", "--limit", "8"});
  EXPECT_EQ(found.code, 1);
  std::string seen;
  for (const json& line : found.report["checks"]) {
    if (line["result"] != "FAILED") continue;
    std::string text = line["kind"].get<std::string>() + " " + line["check"].get<std::string>() +
                       ": " + line["text"].get<std::string>();
    for (const json& detail : line["details"]) text += " | " + detail.get<std::string>();
    seen += text + "\n";
  }
  EXPECT_THAT(seen,
              AllOf(HasSubstr(std::string(b.kind) + " " + b.check + ":"), HasSubstr(b.words)));
}

INSTANTIATE_TEST_SUITE_P(
    Ways, BadTest,
    testing::Values(
        Break{1, "CrashesInProcess", "bad", "packets", "crashed (SIGABRT) while giving bad TEXT"},
        Break{2, "ThrowsOut", "bad", "packets", "an exception left process()"},
        Break{3, "KeepsPackets", "bad", "packets", "still held after the node"},
        Break{4, "KeepsTheCall", "bad", "packets", "a borrowed handle was kept"},
        Break{5, "WrongThread", "bad", "packets", "came from another thread"},
        Break{6, "AnswersTwice", "bad", "packets", "after the call was answered"},
        Break{7, "NeverAnswers", "bad", "packets", "was not answered within"},
        Break{8, "LeaksMemory", "bad", "create", "bytes each time"},
        Break{9, "WrongType", "bad", "packets", "a packet of type test.Other/1"},
        Break{10, "TooMany", "bad", "packets", "the contract says emission ONE"},
        Break{11, "CrashesOnOptions", "bad", "options", "crashed (SIGABRT) while creating bad"},
        Break{12, "CrashesOnBytes", "bad", "wire",
              "crashed (SIGABRT) while creating bad from bytes"},
        Break{13, "DescribesAnew", "", "describe", "does not answer the same twice"},
        Break{14, "ExitsAtClose", "bad", "packets",
              "ended the process (exit code 3) while closing"},
        Break{15, "LosesState", "bad", "state", "is not what was loaded"},
        Break{16, "PlansAnew", "bad_transform", "model", "plan() does not say the same"},
        Break{17, "ReleasesTwice", "bad", "packets", "that was let go before"},
        Break{18, "Hangs", "bad", "packets", "did not end within"},
        Break{19, "EmitsInOpen", "bad", "packets", "only process may emit"},
        Break{20, "OneInstance", "bad", "create", "two instances are one"},
        Break{21, "StatusWithoutCode", "bad", "packets", "a status with code 0"}),
    [](const testing::TestParamInfo<Break>& info) { return std::string(info.param.name); });

TEST(CheckTest, NothingIsFoundInWhatIsGood) {
  const Found found = Check(BAD_PLUGINS "/bad_0.so");
  EXPECT_EQ(found.code, 0) << found.report.dump(1);
  int ok = 0;
  for (const json& line : found.report["checks"]) ok += line["result"] == "ok";
  EXPECT_GE(ok, 10) << found.report.dump(1);
}

TEST(CheckTest, ShippedPluginsPass) {
  for (const auto& entry :
       std::filesystem::directory_iterator(ENGINE_BINARY_DIR "/lib/engine/plugins")) {
    if (entry.path().extension() != ".so") continue;
    const Found found = Check(entry.path().string());
    EXPECT_EQ(found.code, 0) << entry.path() << "\n" << found.report.dump(1);
  }
}

TEST(CheckTest, AFileThatIsNoneIsToldByTheScanner) {
  const Outcome outcome = RunEngine({"plugin", "check", "README.md"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("FAILED"), HasSubstr("load")));
}

}  // namespace
}  // namespace engine::tests
