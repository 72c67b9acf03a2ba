// Every reason to refuse a plugin, each on a real file with a good plugin beside it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "engine/abi/host.h"
#include "engine/abi/testing/case_files.h"

namespace engine::abi {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RefusalsTest : public ::testing::Test {
 protected:
  void SetUp() override { descriptors_ = testing::OpenDescriptors(); }
  void TearDown() override {
    EXPECT_FALSE(testing::HasChildren());
    EXPECT_EQ(testing::OpenDescriptors(), descriptors_);
  }

  // Loads the folder, which has one bad file and, from here on, a good plugin; answers the refusal.
  Refusal Load(int limit_ms = 60000) {
    folder_.Copy("good");
    Scanning scanning = testing::TestScanning();
    scanning.options.limit = std::chrono::milliseconds(limit_ms);
    registry_.SetScanning(scanning);
    registry_.SetSchemaCheck(testing::NewSchemaCheck());
    registry_.LoadFolder(folder_.path());
    EXPECT_EQ(registry_.scan_trouble(), "");
    EXPECT_NE(registry_.index().FindPlugin("com.acme.good"), nullptr);
    EXPECT_NE(registry_.Source("good"), nullptr);
    EXPECT_EQ(registry_.index().plugins.size(), 1u);
    const std::vector<Refusal>& refused = registry_.index().refused;
    EXPECT_EQ(refused.size(), 1u);
    return refused.empty() ? Refusal() : refused[0];
  }
  // The built case beside a good plugin.
  void Expect(const std::string& name, const std::string& because, const std::string& fix,
              int limit_ms = 60000) {
    folder_.Copy(name);
    refusal_ = Load(limit_ms);
    EXPECT_THAT(refusal_.reason, HasSubstr(because));
    EXPECT_THAT(refusal_.fix, HasSubstr(fix));
    EXPECT_EQ(refusal_.path, folder_.Path(name + ".so"));
  }
  // Bytes beside a good plugin.
  void ExpectBytes(const std::string& bytes, const std::string& because, const std::string& fix) {
    folder_.Write("bad.so", bytes);
    refusal_ = Load();
    EXPECT_THAT(refusal_.reason, HasSubstr(because));
    EXPECT_THAT(refusal_.fix, HasSubstr(fix));
  }

  testing::CaseFolder folder_;
  Registry registry_;
  Refusal refusal_;
  size_t descriptors_ = 0;
};

// The file.

TEST_F(RefusalsTest, NoLibrary) {
  ExpectBytes("this is not a shared library", "it is not a shared library (no ELF file)",
              "take it off the search path");
}

TEST_F(RefusalsTest, GitLfsPointer) {
  ExpectBytes("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n",
              "a pointer of Git LFS", "git lfs pull");
}

TEST_F(RefusalsTest, Empty) { ExpectBytes("", "it is empty", "copy the file again"); }

TEST_F(RefusalsTest, Folder) {
  mkdir(folder_.Path("bad.so").c_str(), 0755);
  refusal_ = Load();
  EXPECT_EQ(refusal_.reason, "it is a folder and not a file");
  EXPECT_THAT(refusal_.fix, HasSubstr("take it off the search path"));
}

TEST_F(RefusalsTest, PipeIsNotWaitedFor) {
  ASSERT_EQ(mkfifo(folder_.Path("bad.so").c_str(), 0600), 0);
  EXPECT_EQ(Load().reason, "it is no regular file");
}

TEST_F(RefusalsTest, Truncated) {
  const std::string whole = testing::ReadAll(testing::CasePath("built_newer"));
  ASSERT_GT(whole.size(), 4096u);
  size_t made = 0;
  for (size_t size : {size_t{2}, size_t{20}, size_t{63}, size_t{64}, size_t{200}, size_t{1000},
                      size_t{4096}, whole.size() / 2, whole.size() - 100, whole.size() - 1}) {
    folder_.Write("cut" + std::to_string(++made) + ".so", whole.substr(0, size));
  }
  folder_.Copy("good");
  registry_.LoadFolder(folder_.path());
  EXPECT_NE(registry_.index().FindPlugin("com.acme.good"), nullptr);
  EXPECT_EQ(registry_.index().refused.size(), made);
  for (const Refusal& refusal : registry_.index().refused) {
    EXPECT_THAT(refusal.reason, HasSubstr("it is truncated: it should have ")) << refusal.path;
    EXPECT_THAT(refusal.fix, HasSubstr("copy the file again"));
  }
}

TEST_F(RefusalsTest, OtherArchitecture) {
  std::string bytes = testing::ReadAll(testing::CasePath("good"));
  const uint16_t machine = bytes[18] == 62 ? 183 : 62;  // AArch64, or x86-64 on another host
  std::memcpy(&bytes[18], &machine, sizeof machine);
  ExpectBytes(bytes, "it is for another architecture", "build it for this machine");
  EXPECT_EQ(refusal_.built_for, machine == 183 ? "AArch64" : "x86-64");
  EXPECT_NE(refusal_.this_host, refusal_.built_for);
  EXPECT_EQ(refusal_.differs, "architecture");
}

TEST_F(RefusalsTest, NoPermission) {
  const std::string path = folder_.Copy("built_newer");
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  ASSERT_EQ(chmod(folder_.path().c_str(), 0755), 0);
  // Root may read everything, so that a child gives that up first.
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(1);
    Registry registry;
    const Status status = registry.LoadFile(path);
    const std::string text = RefusalText(registry.index().refused.at(0));
    _exit(write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(ends[1]);
  char text[2000] = {};
  EXPECT_GT(read(ends[0], text, sizeof text - 1), 0);
  close(ends[0]);
  int code = -1;
  ASSERT_EQ(waitpid(pid, &code, 0), pid);
  EXPECT_EQ(code, 0);
  EXPECT_THAT(text, HasSubstr("it cannot be read: Permission denied"));
  EXPECT_THAT(text, HasSubstr("chmod a+r"));
}

TEST_F(RefusalsTest, MissingSymbol) {
  Expect("missing_symbol", "it exports no symbol engine_plugin_v1", "engine_plugin()");
}

TEST_F(RefusalsTest, UnresolvedSymbol) {
  Expect("unresolved_symbol", "it cannot be loaded: undefined symbol: acme_nowhere",
         "link what defines the symbol");
}

TEST_F(RefusalsTest, MissingLibrary) {
  Expect("missing_library", "it cannot be loaded: libacme_gone.so: cannot open shared object file",
         "LD_LIBRARY_PATH");
}

TEST_F(RefusalsTest, ExtraExport) {
  Expect("extra_export", " besides engine_plugin_v1: acme_helper", "--version-script=plugin.map");
}

TEST_F(RefusalsTest, LinksProtobuf) {
  Expect("links_protobuf", "it brings libprotobuf.so.99", "do not link protobuf");
}

TEST_F(RefusalsTest, LinksTorch) {
  Expect("links_torch", "it links libtorch_cpu.so, which a plugin of tier NONE must not",
         "link nothing of LibTorch");
}

TEST_F(RefusalsTest, SecondTorchByRunpath) {
  Expect("second_torch", "it brings a second LibTorch", "without RPATH and RUNPATH");
  EXPECT_THAT(refusal_.built_for, HasSubstr("stubs/libtorch_cpu.so"));
}

TEST_F(RefusalsTest, SecondTorchThroughAnotherLibrary) {
  Expect("hidden_torch", "it brings a second LibTorch", "without RPATH and RUNPATH");
  EXPECT_THAT(refusal_.built_for, HasSubstr("stubs/libtorch_cpu.so"));
}

// The manifest.

TEST_F(RefusalsTest, WrongMagic) {
  Expect("wrong_magic", "the magic number is missing", "the SDK's headers");
}

TEST_F(RefusalsTest, ShortManifest) {
  Expect("short_manifest", "its manifest has a struct_size of 40; the least is 112",
         "the SDK's headers");
}

// This host's, and minors that come after it.
std::string Version(int later) {
  return std::to_string(ENGINE_ABI_MAJOR) + "." + std::to_string(ENGINE_ABI_MINOR + later);
}

TEST_F(RefusalsTest, OtherMajor) {
  Expect("other_major", "another major version of the plugin ABI", "use a newer engine");
  EXPECT_EQ(refusal_.built_for, "ABI 2.0");
  EXPECT_EQ(refusal_.this_host, "ABI " + Version(0));
  EXPECT_EQ(refusal_.differs, "ABI major");
}

TEST_F(RefusalsTest, NewerMinor) {
  Expect("newer_minor", "it needs a newer plugin ABI", "ENGINE_ABI_TARGET " + Version(0));
  EXPECT_EQ(refusal_.id, "com.acme.newer_minor");
  EXPECT_EQ(refusal_.version, "0.3.1");
  EXPECT_EQ(refusal_.built_for, "ABI " + Version(1));
  EXPECT_EQ(refusal_.differs, "abi_min");
  EXPECT_THAT(refusal_.kinds, ElementsAre("newer_minor"));
}

TEST_F(RefusalsTest, BuiltNewerLoads) {
  folder_.Copy("built_newer");
  registry_.SetScanning(testing::TestScanning());
  registry_.LoadFolder(folder_.path());
  EXPECT_THAT(registry_.index().refused, IsEmpty());
  EXPECT_NE(registry_.index().FindPlugin("com.acme.built_newer"), nullptr);
}

TEST_F(RefusalsTest, OtherFingerprint) {
  Expect("native_other", "native tensor tier was built for another LibTorch",
         "build it with TIER STABLE");
  EXPECT_EQ(refusal_.built_for, "torch=2.12.1;cxx11abi=1;gxxabi=1xxx;stdlib=libstdcxx");
  EXPECT_EQ(refusal_.this_host, Fingerprint());
  EXPECT_THAT(refusal_.differs, HasSubstr("torch"));
  // Learnt by a child that might have crashed at it.
  EXPECT_THAT(refusal_.kinds, ElementsAre("native_other"));
}

TEST(RefusalTest, OnlyWhatDiffersIsNamed) {
  EXPECT_EQ(DifferingParts("torch=2.12.1;cxx11abi=1;stdlib=libstdcxx",
                           "torch=2.13.0;cxx11abi=1;stdlib=libstdcxx"),
            "torch");
  EXPECT_EQ(DifferingParts("a=1;b=2", "a=1;c=2"), "b, c");
  EXPECT_EQ(DifferingParts("", "a=1"), "a");
  EXPECT_EQ(DifferingParts(";;=;a", "a"), "");
}

TEST(RefusalTest, TextHasALineForEachFact) {
  Refusal refusal;
  refusal.path = "/opt/acme_lora.so";
  refusal.id = "com.acme.lora";
  refusal.version = "0.3.1";
  refusal.reason = "native tensor tier was built for another LibTorch";
  refusal.built_for = "torch=2.12.1";
  refusal.this_host = "torch=2.13.0";
  refusal.differs = "torch";
  refusal.fix = "build it again";
  EXPECT_EQ(RefusalText(refusal, "p.pbtxt:14:3 node \"adapter\""),
            "plugin refused: /opt/acme_lora.so\n"
            "  id         com.acme.lora 0.3.1\n"
            "  because    native tensor tier was built for another LibTorch\n"
            "  built for  torch=2.12.1\n"
            "  this host  torch=2.13.0\n"
            "  differs    torch\n"
            "  fix        build it again\n"
            "  affects    p.pbtxt:14:3 node \"adapter\"\n");
}

TEST_F(RefusalsTest, NewerTorch) {
  Expect("newer_torch", "it needs a newer LibTorch", "lower TORCH_TARGET_VERSION");
  EXPECT_EQ(refusal_.built_for, "LibTorch 9.2.0");
  EXPECT_EQ(refusal_.differs, "torch");
  EXPECT_THAT(refusal_.kinds, ElementsAre("newer_torch"));
}

TEST_F(RefusalsTest, UnknownTier) {
  Expect("unknown_tier", "its tensor tier 7 is unknown", "use a newer engine");
}

TEST_F(RefusalsTest, NullOpen) {
  Expect("null_open", "its manifest has a null pointer for open()", "the SDK's headers");
}

TEST_F(RefusalsTest, WildPointer) {
  Expect("wild_id", "it crashed with SIGSEGV while its manifest was read", "tell its author");
}

// What its code does.

TEST_F(RefusalsTest, CrashInStaticConstructor) {
  Expect("crash_load", "it crashed with SIGSEGV while it was loaded (static constructor)",
         "tell its author; it is tried again when the file changes");
  EXPECT_THAT(refusal_.output, ElementsAre("acme: about to crash"));
}

TEST_F(RefusalsTest, ExitInStaticConstructor) {
  Expect("exit_load", "it called exit(3) while it was loaded (static constructor)",
         "must not end its host");
}

TEST_F(RefusalsTest, HangInStaticConstructor) {
  Expect("hang_load", "it hung: no answer within 1500 ms while it was loaded (static constructor)",
         "ENGINE_SCAN_TIMEOUT_MS", 1500);
}

// Whether an exception passes through the loader or ends the process there is up to the C library.
TEST_F(RefusalsTest, ThrowInStaticConstructor) {
  folder_.Copy("throw_load");
  const Refusal refusal = Load();
  EXPECT_THAT(refusal.reason,
              AnyOf("it crashed with SIGABRT while it was loaded (static constructor)",
                    "an exception left a static constructor: no GPU"));
  EXPECT_THAT(RefusalText(refusal), HasSubstr("no GPU"));
  EXPECT_THAT(refusal.fix, AnyOf(HasSubstr("tell its author"), HasSubstr("catch it there")));
}

TEST_F(RefusalsTest, CrashInOpen) {
  Expect("crash_open", "it crashed with SIGSEGV in open()", "tell its author");
}
TEST_F(RefusalsTest, ExitInOpen) {
  Expect("exit_open", "it called exit(3) in open()", "must not end its host");
}
TEST_F(RefusalsTest, HangInOpen) {
  Expect("hang_open", "it hung: no answer within 2 s in open()", "ENGINE_SCAN_TIMEOUT_MS", 2000);
}
TEST_F(RefusalsTest, ThrowInOpen) {
  Expect("throw_open", "an exception left open(): no GPU", "catch it there");
}
TEST_F(RefusalsTest, FailureOfOpen) {
  Expect("fail_open", "its open() failed: no licence key", "give it what it asks for");
  EXPECT_EQ(refusal_.id, "com.acme.fail_open");
}
TEST_F(RefusalsTest, CrashInDescribe) {
  Expect("crash_describe", "it crashed with SIGSEGV in describe()", "tell its author");
}
TEST_F(RefusalsTest, ThrowInDescribe) {
  Expect("throw_describe", "an exception left describe(): no GPU", "catch it there");
}
TEST_F(RefusalsTest, CrashInClose) {
  Expect("crash_close", "it crashed with SIGSEGV in close()", "tell its author");
}
TEST_F(RefusalsTest, ThrowInClose) {
  Expect("throw_close", "an exception left close(): no GPU", "catch it there");
}

// What it says of itself.

TEST_F(RefusalsTest, KindOfTwoPlugins) {
  Expect("same_kind", "its kind 'good' is already that of plugin com.acme.good (", "another name");
  EXPECT_THAT(refusal_.reason, HasSubstr(folder_.Path("good.so")));
  EXPECT_EQ(refusal_.id, "com.acme.same_kind");
}

TEST_F(RefusalsTest, TwoPluginsOfOneId) {
  Expect("same_id", "plugin com.acme.good is already loaded from another file",
         "take one of the two files off the search path");
  EXPECT_THAT(refusal_.this_host, HasSubstr(folder_.Path("good.so")));
}

TEST_F(RefusalsTest, MalformedSchema) {
  Expect("bad_schema",
         "the schema bytes of plugin com.acme.bad_schema cannot be read: they are no "
         "FileDescriptorSet",
         "OPTIONS options.proto");
  EXPECT_THAT(refusal_.kinds, ElementsAre("bad_schema"));
}

TEST_F(RefusalsTest, SchemaThatClashes) {
  Expect("clashing_schema", "\"engine.Node\" is already defined", "a package of the plugin's own");
}

TEST_F(RefusalsTest, OptionsThatTheSchemaLacks) {
  Expect("missing_options",
         "names the options message acme.Nowhere, which its schema does not have",
         "name a message of its options.proto");
}

TEST_F(RefusalsTest, KindNamedAsAField) {
  Expect("taken_name", "its kind 'executor' has the name of something that Node already has",
         "give the kind another name");
}

TEST_F(RefusalsTest, LyingKindSize) {
  Expect("lying_kind", "a kind's description has a struct_size of 24; the least is 176",
         "correct what describe() gives");
}
TEST_F(RefusalsTest, HugeKindSize) {
  Expect("huge_kind", "a kind's description has a struct_size of 4294967280",
         "correct what describe() gives");
}
TEST_F(RefusalsTest, LyingPortSize) {
  Expect("lying_port",
         "kind 'lying_port': the description of input 0 has a struct_size of 12; the least is 88",
         "correct what describe() gives");
}
TEST_F(RefusalsTest, LyingTableSize) {
  Expect("lying_table", "its table engine.nodes/1 has a struct_size of 8; the least is 24",
         "fill it in");
}
TEST_F(RefusalsTest, NullDescribe) {
  Expect("null_describe", "its table engine.nodes/1 has a null pointer for describe()",
         "fill it in");
}
TEST_F(RefusalsTest, NullCreate) {
  Expect("null_create", "its table engine.nodes/1 has a null pointer for create()", "fill it in");
}
TEST_F(RefusalsTest, NoDescription) {
  Expect("null_kind", "describe() gave no description", "correct what describe() gives");
}
TEST_F(RefusalsTest, NameThatIsNoIdentifier) {
  Expect("bad_name", "its kind 'two words' has a name that is no identifier",
         "correct what describe() gives");
}
TEST_F(RefusalsTest, AbsurdCount) {
  Expect("many_kinds", "says it has 50000 kinds; the most is 1024", "fill it in");
}

}  // namespace
}  // namespace engine::abi
