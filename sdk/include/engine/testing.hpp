// Unit tests of a plugin in text: packets in, packets out, errors as they read. Needs neither the
// engine nor a test framework; the plugin's sources are compiled into the test program, by
// engine_plugin_test() of the SDK's CMake package.
//
//   #include "engine/testing.hpp"
//   using engine::testing::TestNode;
//
//   ENGINE_TEST(Capitals) {
//     TestNode upper("upper { times: 2 }");
//     ENGINE_EXPECT(upper.Feed(R"(TEXT: "hello")"), R"(TEXT: "HELLO HELLO")");
//   }
//   ENGINE_TEST(TooOften) {
//     TestNode upper("upper { times: 101 }");
//     ENGINE_EXPECT_HAS(upper.Show(), "'times' is 101; the most is 100");
//   }
//   ENGINE_TEST_MAIN()
//
// What breaks the contract of the SDK fails a test even when its text is right: packets that are
// held after the node is gone, handles that are kept after their call, wrong types, exceptions.
#ifndef ENGINE_TESTING_HPP_
#define ENGINE_TESTING_HPP_

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "engine/testing/node.hpp"

namespace engine::testing {

// The text with one field a line and one space between words, so that layout does not matter; what
// is no text format comes back line by line, without the spaces around.
inline std::string Canonical(std::string_view text);

namespace internal {

inline void AppendCanonical(const Field& f, std::string* out) {
  *out += f.name;
  if (!f.message) {
    *out += ": " + (f.quoted ? Quoted(f.value) : f.value);
    return;
  }
  *out += " {";
  for (const Field& inner : f.fields) {
    *out += ' ';
    AppendCanonical(inner, out);
  }
  *out += " }";
}

struct Test {
  const char* name;
  void (*run)();
};
inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}
inline int& Failures() {
  static int failures = 0;
  return failures;
}
inline bool Register(const char* name, void (*run)()) {
  Tests().push_back({name, run});
  return true;
}

inline void PrintLines(const char* title, std::string_view text) {
  if (text.empty()) text = "(nothing)";
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::fprintf(stderr, "  %-9s %.*s\n", title, static_cast<int>(end), text.data());
    text.remove_prefix(std::min(end + 1, text.size()));
    title = "";
  }
}
inline void Expect(const char* file, int line, const std::string& actual, std::string_view expected,
                   bool whole) {
  const std::string found = whole ? Canonical(actual) : actual;
  const std::string wanted = whole ? Canonical(expected) : std::string(expected);
  if (whole ? found == wanted : found.find(wanted) != std::string::npos) return;
  ++Failures();
  std::fprintf(stderr, "%s:%d: %s\n", file, line, whole ? "another text" : "a part is not there");
  PrintLines("expected", wanted);
  PrintLines("actual", found);
}

// Runs all tests, or those whose names hold argv[1].
inline int RunTests(int argc, char** argv) {
  int run = 0, failed = 0;
  for (const Test& test : Tests()) {
    if (argc > 1 && std::string_view(test.name).find(argv[1]) == std::string_view::npos) continue;
    const int before = Failures();
    ++run;
    try {
      test.run();
    } catch (const std::exception& e) {
      ++Failures();
      std::fprintf(stderr, "%s: it throws: %s\n", test.name, e.what());
    }
    for (const std::string& finding : TheFindings().Take()) {
      ++Failures();
      std::fprintf(stderr, "%s: %s\n", test.name, finding.c_str());
    }
    const bool good = Failures() == before;
    failed += !good;
    std::printf("%-6s %s\n", good ? "ok" : "FAILED", test.name);
    std::fflush(stdout);
  }
  if (run == 0) std::fprintf(stderr, "no test has such a name\n");
  std::printf("%d of %d tests passed\n", run - failed, run);
  return failed == 0 && run != 0 ? 0 : 1;
}

}  // namespace internal

inline std::string Canonical(std::string_view text) {
  std::string out;
  std::vector<Field> fields;
  if (ParseText(text, &fields).ok()) {
    for (const Field& f : fields) {
      if (!out.empty()) out += '\n';
      internal::AppendCanonical(f, &out);
    }
    return out;
  }
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
    while (!line.empty() && (line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
    if (!line.empty()) out += (out.empty() ? "" : "\n") + std::string(line);
  }
  return out;
}

#define ENGINE_TEST(name)                                               \
  static void EngineTest_##name();                                      \
  [[maybe_unused]] static const bool engine_test_registered_##name =    \
      ::engine::testing::internal::Register(#name, &EngineTest_##name); \
  static void EngineTest_##name()

// The texts are the same but for layout.
#define ENGINE_EXPECT(actual, expected) \
  ::engine::testing::internal::Expect(__FILE__, __LINE__, (actual), (expected), true)
// The first text holds the second.
#define ENGINE_EXPECT_HAS(actual, part) \
  ::engine::testing::internal::Expect(__FILE__, __LINE__, (actual), (part), false)

#define ENGINE_TEST_MAIN() \
  int main(int argc, char** argv) { return ::engine::testing::internal::RunTests(argc, argv); }

}  // namespace engine::testing

#endif  // ENGINE_TESTING_HPP_
