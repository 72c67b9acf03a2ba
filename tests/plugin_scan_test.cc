// The binary with plugins that crash or were built for another host beside those that ship.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/process.h"

namespace engine::tests {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

class PluginScan : public ::testing::Test {
 protected:
  PluginScan() {
    std::string made = (fs::temp_directory_path() / "engine-scan-XXXXXX").string();
    folder_ = mkdtemp(made.data());
    for (const char* name : {"good", "native_other", "crash_load", "exit_open"}) {
      fs::copy_file(fs::path(ABI_CASES) / (std::string(name) + ".so"),
                    folder_ / (std::string(name) + ".so"));
    }
    options_ = {.env = {{"ENGINE_PLUGIN_PATH", folder_.string()},
                        {"ENGINE_PLUGIN_CACHE", (folder_ / "cache.json").string()}}};
  }
  ~PluginScan() override { fs::remove_all(folder_); }

  json List() {
    const Outcome outcome = RunEngine({"plugin", "list", "--json"}, options_);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return json::parse(outcome.out);
  }

  fs::path folder_;
  ProcessOptions options_;
};

TEST_F(PluginScan, BadPluginsHarmNobody) {
  const json cold = List();
  ASSERT_EQ(cold["refused"].size(), 3u);
  EXPECT_FALSE(cold.contains("scan_trouble"));
  std::vector<std::string> ids;
  for (const json& plugin : cold["plugins"]) ids.push_back(plugin["id"]);
  EXPECT_THAT(ids, ::testing::IsSupersetOf({"com.acme.good", "engine.text", "engine.kv_cache"}));
  const json& crashed = cold["refused"][0];
  EXPECT_EQ(crashed["path"], (folder_ / "crash_load.so").string());
  EXPECT_EQ(crashed["because"], "it crashed with SIGSEGV while it was loaded (static constructor)");
  EXPECT_EQ(crashed["output"], json::array({"acme: about to crash"}));
  EXPECT_EQ(cold["refused"][1]["because"], "it called exit(3) in open()");
  EXPECT_EQ(cold["refused"][2]["kinds"], json::array({"native_other"}));

  // The second time everything comes from the cache, and nothing else has changed.
  const auto written = fs::last_write_time(folder_ / "cache.json");
  EXPECT_EQ(List(), cold);
  EXPECT_EQ(fs::last_write_time(folder_ / "cache.json"), written);

  const Outcome why = RunEngine({"plugin", "list", "--why"}, options_);
  EXPECT_THAT(why.out, HasSubstr("plugin refused: " + (folder_ / "native_other.so").string()));
  EXPECT_THAT(why.out, HasSubstr("  built for  torch=2.12.1;"));
  EXPECT_THAT(why.out, HasSubstr("  differs    torch"));
}

TEST_F(PluginScan, AMissedKindNamesTheRefusalAndTheLine) {
  const std::string pipeline = (folder_ / "p.pbtxt").string();
  std::ofstream(pipeline) << "node { name: \"adapter\"  native_other { } }\n";
  const Outcome outcome = RunEngine({"check", pipeline}, options_);
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("unknown kind \"native_other\""));
  EXPECT_THAT(outcome.err, HasSubstr("because    native tensor tier was built for another"));
  EXPECT_THAT(outcome.err,
              HasSubstr("affects    " + pipeline + ":1:25 node \"adapter\" (native_other)"));
}

TEST_F(PluginScan, AnEngineWithoutAPlaceForItsCacheScansAndStarts) {
  options_.env[1].second = "";
  EXPECT_EQ(List()["refused"].size(), 3u);
  EXPECT_FALSE(fs::exists(folder_ / "cache.json"));
  options_.env[1].second = "/proc/nowhere/cache.json";
  EXPECT_EQ(List()["refused"].size(), 3u);
}

}  // namespace
}  // namespace engine::tests
