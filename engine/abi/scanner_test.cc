// The scanner's order of work and its cache, on real files and a real child.
#include "engine/abi/scanner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "engine/abi/scan_cache.h"
#include "engine/abi/testing/case_files.h"

namespace engine::abi {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = Verdict::Kind;

class ScannerTest : public ::testing::Test {
 protected:
  void SetUp() override { descriptors_ = testing::OpenDescriptors(); }
  void TearDown() override {
    EXPECT_FALSE(testing::HasChildren());
    EXPECT_EQ(testing::OpenDescriptors(), descriptors_);
    unsetenv("LD_LIBRARY_PATH");
  }

  // A child that notes in a file that it ran.
  Scanning Counted() {
    Scanning scanning = testing::TestScanning(folder_.Path("cache/plugins.json"));
    const std::string script =
        folder_.Write("child.sh", "#!/bin/sh\necho ran >>" + folder_.Path("runs") + "\nexec " +
                                      scanning.options.command[0] + " \"$@\"\n");
    chmod(script.c_str(), 0755);
    scanning.options.command = {script};
    return scanning;
  }
  // Children that ran since the last call.
  size_t Runs() {
    const std::string text = testing::ReadAll(folder_.Path("runs"));
    fs::remove(folder_.Path("runs"));
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  std::vector<Refusal> Load(const Scanning& scanning) {
    Registry registry;
    registry.SetScanning(scanning);
    registry.LoadFolder(folder_.path());
    EXPECT_EQ(registry.scan_trouble(), "");
    plugins_ = registry.index().plugins.size();
    return registry.index().refused;
  }

  testing::CaseFolder folder_;
  size_t descriptors_ = 0, plugins_ = 0;
};

TEST_F(ScannerTest, GoesOnBehindWhatEndedItsChild) {
  std::vector<std::string> files;
  for (const char* name :
       {"good", "crash_load", "built_newer", "exit_load", "crash_open", "bad_name", "same_kind"}) {
    files.push_back(testing::CasePath(name));
  }
  std::string trouble;
  const std::vector<Verdict> verdicts = Scan(testing::TestScanning().options, files, &trouble);
  EXPECT_EQ(trouble, "");
  const Kind expected[] = {Kind::kHarmless, Kind::kRefused, Kind::kHarmless, Kind::kRefused,
                           Kind::kRefused,  Kind::kRefused, Kind::kHarmless};
  ASSERT_EQ(verdicts.size(), std::size(expected));
  for (size_t i = 0; i < verdicts.size(); ++i) {
    EXPECT_EQ(verdicts[i].kind, expected[i]) << files[i] << ": " << verdicts[i].refusal.reason;
  }
}

TEST_F(ScannerTest, AllInOneChildWhenNothingHappens) {
  folder_.Copy("good");
  folder_.Copy("built_newer");
  folder_.Copy("newer_minor");
  EXPECT_EQ(Load(Counted()).size(), 1u);
  EXPECT_EQ(Runs(), 1u);
}

TEST_F(ScannerTest, WarmStartRunsNoChild) {
  folder_.Copy("good");
  folder_.Copy("crash_load");
  folder_.Copy("native_other");
  const Scanning scanning = Counted();
  const std::vector<Refusal> cold = Load(scanning);
  EXPECT_GE(Runs(), 1u);
  EXPECT_EQ(plugins_, 1u);
  const std::vector<Refusal> warm = Load(scanning);
  EXPECT_EQ(Runs(), 0u);
  EXPECT_EQ(plugins_, 1u);
  ASSERT_EQ(cold.size(), 2u);
  ASSERT_EQ(warm.size(), 2u);
  for (size_t i = 0; i < warm.size(); ++i) {
    EXPECT_EQ(RefusalText(cold[i]), RefusalText(warm[i]));
    EXPECT_EQ(cold[i].kinds, warm[i].kinds);
  }
}

TEST_F(ScannerTest, ScansAgainWhenTheFileChanges) {
  const std::string path = folder_.Copy("crash_load");
  const Scanning scanning = Counted();
  EXPECT_EQ(Load(scanning).size(), 1u);
  EXPECT_EQ(Runs(), 1u);
  fs::copy_file(testing::CasePath("good"), path, fs::copy_options::overwrite_existing);
  EXPECT_THAT(Load(scanning), IsEmpty());
  EXPECT_EQ(Runs(), 1u);
  fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(2));
  EXPECT_THAT(Load(scanning), IsEmpty());
  EXPECT_EQ(Runs(), 1u);
}

TEST_F(ScannerTest, ScansAgainWhenTheLoaderSearchesElsewhere) {
  folder_.Copy("missing_library");
  const Scanning scanning = Counted();
  EXPECT_EQ(Load(scanning).size(), 1u);
  EXPECT_EQ(Runs(), 1u);
  // A library that appears in a folder that is searched already counts too.
  const std::string libraries = folder_.Path("libraries");
  fs::create_directory(libraries);
  setenv("LD_LIBRARY_PATH", libraries.c_str(), 1);
  EXPECT_EQ(Load(scanning).size(), 1u);
  EXPECT_EQ(Runs(), 1u);
  EXPECT_EQ(Load(scanning).size(), 1u);
  EXPECT_EQ(Runs(), 0u);
  fs::last_write_time(libraries, fs::last_write_time(libraries) + std::chrono::seconds(2));
  EXPECT_EQ(Load(scanning).size(), 1u);
  EXPECT_EQ(Runs(), 1u);
  unsetenv("LD_LIBRARY_PATH");
  EXPECT_EQ(Load(scanning).size(), 1u);
  EXPECT_EQ(Runs(), 0u);  // as it was first
}

TEST_F(ScannerTest, DamagedCacheIsWrittenAnew) {
  folder_.Copy("good");
  const Scanning scanning = Counted();
  for (const std::string& bytes :
       {std::string(), std::string("{"), std::string("[1,2]"), std::string("{\"format\":1}"),
        std::string("{\"format\":1,\"files\":{\"x\":3}}"), std::string("{\"format\":99}"),
        std::string(1000, '\0'), std::string(100000, '[')}) {
    fs::create_directories(folder_.Path("cache"));
    std::ofstream(scanning.cache, std::ios::binary) << bytes;
    EXPECT_THAT(Load(scanning), IsEmpty());
    EXPECT_EQ(Runs(), 1u);
    EXPECT_THAT(Load(scanning), IsEmpty());
    EXPECT_EQ(Runs(), 0u);
  }
}

TEST_F(ScannerTest, CacheThatCannotBeWrittenIsNoError) {
  folder_.Copy("good");
  Scanning scanning = Counted();
  scanning.cache = "/proc/nowhere/plugins.json";
  EXPECT_THAT(Load(scanning), IsEmpty());
  EXPECT_EQ(Runs(), 1u);
  EXPECT_EQ(plugins_, 1u);
}

TEST_F(ScannerTest, CacheForgetsFilesThatAreGone) {
  const std::string path = folder_.Copy("good");
  const Scanning scanning = Counted();
  Load(scanning);
  EXPECT_THAT(testing::ReadAll(scanning.cache), HasSubstr("/good.so"));
  fs::remove(path);
  folder_.Copy("built_newer");
  Load(scanning);
  const std::string text = testing::ReadAll(scanning.cache);
  EXPECT_EQ(text.find("/good.so"), std::string::npos);
  EXPECT_THAT(text, HasSubstr("/built_newer.so"));
}

TEST_F(ScannerTest, ScansAgainUnderAnotherLimit) {
  folder_.Copy("hang_open");
  Scanning scanning = Counted();
  scanning.options.limit = std::chrono::milliseconds(1000);
  EXPECT_THAT(Load(scanning)[0].reason, HasSubstr("no answer within 1 s in open()"));
  EXPECT_EQ(Runs(), 1u);
  Load(scanning);
  EXPECT_EQ(Runs(), 0u);
  scanning.options.limit = std::chrono::milliseconds(1100);
  EXPECT_THAT(Load(scanning)[0].reason, HasSubstr("no answer within 1100 ms in open()"));
  EXPECT_EQ(Runs(), 1u);
}

TEST_F(ScannerTest, ScannerThatCannotRunIsToldAndLoadsAllTheSame) {
  folder_.Copy("good");
  for (const char* program : {"/nowhere/engine", "/bin/true", "/bin/false"}) {
    Registry registry;
    Scanning scanning;
    scanning.options.command = {program};
    registry.SetScanning(scanning);
    registry.LoadFolder(folder_.path());
    EXPECT_THAT(registry.scan_trouble(), HasSubstr("the scanner's process")) << program;
    EXPECT_NE(registry.index().FindPlugin("com.acme.good"), nullptr);
  }
}

TEST_F(ScannerTest, WhatAPluginStartedIsEnded) {
  // A process of its own, which holds the pipes open.
  const std::string script =
      folder_.Write("child.sh", "#!/bin/sh\necho '{\"ready\":true}' >&3\nsleep 1000 &\necho $! >" +
                                    folder_.Path("started") + "\nexit 0\n");
  chmod(script.c_str(), 0755);
  ScanOptions options;
  options.command = {script};
  std::string trouble;
  const std::vector<Verdict> verdicts = Scan(options, {testing::CasePath("good")}, &trouble);
  EXPECT_EQ(verdicts[0].refusal.reason,
            "it called exit(0) while it was loaded (static constructor)");
  // Killed, though perhaps nobody has taken notice of its end yet.
  const int started = std::stoi(testing::ReadAll(folder_.Path("started")));
  const std::string stat = "/proc/" + std::to_string(started) + "/stat";
  const auto alive = [&] {
    const std::string text = testing::ReadAll(stat);
    return !text.empty() && text.find(") Z") == std::string::npos;
  };
  for (int i = 0; alive() && i < 10000; ++i) usleep(1000);
  EXPECT_FALSE(alive());
}

TEST_F(ScannerTest, AFileIsNotBlamedForWhatAnotherLeftBehind) {
  // The first file is good and, as by a thread of its, the process crashes at the second.
  const std::string script = folder_.Write(
      "child.sh", "#!/bin/sh\n[ $# = 3 ] || exec " ABI_SCAN_CHILD
                  " \"$@\"\nexec >&3\necho '{\"ready\":true}'\n"
                  "echo '{\"file\":0,\"harmless\":true}'\necho '{\"file\":0,\"done\":true}'\n"
                  "echo '{\"file\":1,\"step\":0}'\nkill -ABRT $$\n");
  chmod(script.c_str(), 0755);
  ScanOptions options;
  options.command = {script};
  std::string trouble;
  const std::vector<Verdict> verdicts =
      Scan(options, {testing::CasePath("good"), testing::CasePath("built_newer")}, &trouble);
  EXPECT_EQ(verdicts[0].kind, Kind::kHarmless);
  EXPECT_EQ(verdicts[1].kind, Kind::kHarmless) << verdicts[1].refusal.reason;
}

TEST_F(ScannerTest, ReportsThatAreNotTheChildsAreNotTaken) {
  const std::string script = folder_.Write(
      "child.sh",
      "#!/bin/sh\nexec >&3\necho '{\"file\":0,\"harmless\":true}'\necho '{\"ready\":true}'\n"
      "echo nonsense\necho '[]'\necho '{\"file\":7,\"harmless\":true}'\n"
      "echo '{\"file\":-1,\"done\":true}'\necho '{\"file\":\"0\",\"harmless\":true}'\n"
      "echo '{\"file\":0,\"step\":99}'\necho '{\"file\":0,\"refused\":{\"because\":3}}'\n"
      "kill -ABRT $$\n");
  chmod(script.c_str(), 0755);
  ScanOptions options;
  options.command = {script};
  std::string trouble;
  const std::vector<Verdict> verdicts = Scan(options, {testing::CasePath("good")}, &trouble);
  EXPECT_EQ(verdicts[0].kind, Kind::kRefused);
  EXPECT_THAT(verdicts[0].refusal.reason, HasSubstr("crashed with SIGABRT"));
}

TEST_F(ScannerTest, LimitComesFromTheEnvironment) {
  const auto of = [](const char* text) {
    setenv("ENGINE_SCAN_TIMEOUT_MS", text, 1);
    return ScanLimit().count();
  };
  EXPECT_EQ(of("250"), 250);
  for (const char* wrong : {"", "0", "-5", "5s", "99999999999", "x"}) EXPECT_EQ(of(wrong), 10000);
  unsetenv("ENGINE_SCAN_TIMEOUT_MS");
  EXPECT_EQ(ScanLimit().count(), 10000);
}

}  // namespace
}  // namespace engine::abi
