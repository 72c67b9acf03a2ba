#include "engine/abi/elf.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/plugin.h"

namespace engine::abi {
namespace {

// No plugin that makes sense reaches these; a file that says it does is not followed further.
constexpr uint64_t kMaxSymbols = 1 << 20;
constexpr uint64_t kMaxTable = 64 << 20;  // bytes of a table that is read as a whole
constexpr size_t kMaxName = 4096;
constexpr size_t kMaxSegments = 256;  // each address is looked for in all of them
constexpr size_t kMaxListed = 4096;   // exports, needed libraries and folders that are kept
constexpr uint64_t kMaxFile = uint64_t{1} << 40;  // an offset beyond it is no truncation

constexpr char kRebuild[] = "copy the file again, or build it again";
constexpr char kNotOurs[] =
    "take it off the search path, or build a shared library for this machine";

std::string MachineName(unsigned machine) {
  switch (machine) {
    case EM_386:
      return "x86 (32 bits)";
    case EM_X86_64:
      return "x86-64";
    case EM_ARM:
      return "ARM (32 bits)";
    case EM_AARCH64:
      return "AArch64";
    case EM_RISCV:
      return "RISC-V";
    case EM_PPC64:
      return "PowerPC (64 bits)";
    case EM_S390:
      return "S/390";
    default:
      return "machine " + std::to_string(machine);
  }
}

#if defined(__x86_64__)
constexpr unsigned kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kMachine = EM_AARCH64;
#elif defined(__riscv)
constexpr unsigned kMachine = EM_RISCV;
#else
#error "engine/abi/elf.cc does not know this machine"
#endif
static_assert(sizeof(void*) == 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

// What linkers define by themselves in a library without a version script, or with any.
bool IsLinkers(std::string_view name) {
  static constexpr std::string_view kNames[] = {"_init",  "_fini", "__bss_start",
                                                "_edata", "_end",  "_etext"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

// Bytes of a file, or of memory in tests and fuzzing.
class Source {
 public:
  explicit Source(std::string_view bytes) : bytes_(bytes), size_(bytes.size()) {}
  Source(int fd, uint64_t size) : fd_(fd), size_(size) {}

  uint64_t size() const { return size_; }
  // Whether [offset, offset + size) lies in the file.
  bool Inside(uint64_t offset, uint64_t size) const {
    return offset <= size_ && size <= size_ - offset;
  }
  // Read rather than mapped: a file that shrinks under a mapping kills the reader.
  bool Read(uint64_t offset, size_t size, void* out) const {
    if (!Inside(offset, size)) return false;
    if (fd_ < 0) {
      if (size != 0) std::memcpy(out, bytes_.data() + offset, size);
      return true;
    }
    for (size_t have = 0; have < size;) {
      const ssize_t n = pread(fd_, static_cast<char*>(out) + have, size - have,
                              static_cast<off_t>(offset + have));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      have += static_cast<size_t>(n);
    }
    return true;
  }

 private:
  int fd_ = -1;
  std::string_view bytes_;
  uint64_t size_;
};

class Parser {
 public:
  Parser(const Source& source, ElfFacts* facts, ElfProblem* problem)
      : source_(source), facts_(facts), problem_(problem) {}

  bool Parse() { return Header() && Segments() && Dynamic() && Symbols(); }

 private:
  bool Fail(std::string because, std::string fix) {
    problem_->because = std::move(because);
    problem_->fix = std::move(fix);
    return false;
  }
  bool Damaged(const char* what) { return Fail(std::string("it is damaged: ") + what, kRebuild); }
  bool Truncated(uint64_t needed) {
    return Fail("it is truncated: it should have " + std::to_string(needed) + " bytes and has " +
                    std::to_string(source_.size()),
                kRebuild);
  }

  bool Inside(uint64_t offset, uint64_t size) const { return source_.Inside(offset, size); }
  template <typename T>
  bool Get(uint64_t offset, T* out) const {
    return source_.Read(offset, sizeof(T), out);
  }
  // `count` of T at an offset; false when they are not all there or are more than make sense.
  template <typename T>
  bool GetAll(uint64_t offset, uint64_t count, std::vector<T>* out) const {
    if (count > kMaxTable / sizeof(T) || !Inside(offset, count * sizeof(T))) return false;
    out->resize(count);
    return source_.Read(offset, count * sizeof(T), out->data());
  }

  bool Header() {
    if (source_.size() == 0) return Fail("it is empty", kRebuild);
    constexpr std::string_view kMagic(ELFMAG, SELFMAG);
    std::string begin(std::min<uint64_t>(source_.size(), 64), '\0');
    if (!source_.Read(0, begin.size(), begin.data())) return Damaged("it cannot be read");
    if (begin.substr(0, SELFMAG) != kMagic) {
      if (kMagic.substr(0, begin.size()) == begin) return Truncated(sizeof(Elf64_Ehdr));
      if (begin.rfind("version https://git-lfs", 0) == 0) {
        return Fail("it is not a shared library but a pointer of Git LFS", "run git lfs pull");
      }
      return Fail("it is not a shared library (no ELF file)", kNotOurs);
    }
    if (!Get(0, &header_)) return Truncated(sizeof(Elf64_Ehdr));
    const bool same_class = header_.e_ident[EI_CLASS] == ELFCLASS64;
    const bool same_order = header_.e_ident[EI_DATA] == ELFDATA2LSB;
    if (!same_class || !same_order || header_.e_machine != kMachine) {
      unsigned machine = header_.e_machine;
      if (header_.e_ident[EI_DATA] == ELFDATA2MSB) machine = (machine & 0xff) << 8 | machine >> 8;
      problem_->built_for = MachineName(machine);
      if (machine == kMachine) {
        problem_->built_for += same_class ? ", big-endian" : ", 32 bits";
      }
      problem_->this_host = MachineName(kMachine);
      return Fail("it is for another architecture", "build it for this machine");
    }
    if (header_.e_type != ET_DYN) {
      return Fail(header_.e_type == ET_REL    ? "it is an object file and not a shared library"
                  : header_.e_type == ET_EXEC ? "it is a program and not a shared library"
                  : header_.e_type == ET_CORE ? "it is a core dump and not a shared library"
                                              : "it is not a shared library",
                  "link it with -shared, or use engine_plugin() of the SDK's CMake package");
    }
    // The section headers come last, so that they tell where the file should end.
    if (header_.e_shoff != 0) {
      const uint64_t sections = uint64_t{header_.e_shnum} * header_.e_shentsize;
      if (!Inside(header_.e_shoff, sections)) {
        return header_.e_shoff > kMaxFile ? Damaged("its section headers lie nowhere")
                                          : Truncated(header_.e_shoff + sections);
      }
    }
    return true;
  }

  bool Segments() {
    if (header_.e_phentsize != sizeof(Elf64_Phdr) || header_.e_phnum == 0) {
      return Damaged("it has no program headers");
    }
    const uint64_t table = uint64_t{header_.e_phnum} * sizeof(Elf64_Phdr);
    if (!Inside(header_.e_phoff, table)) {
      return header_.e_phoff > kMaxFile ? Damaged("its program headers lie nowhere")
                                        : Truncated(header_.e_phoff + table);
    }
    for (unsigned i = 0; i < header_.e_phnum; ++i) {
      Elf64_Phdr segment;
      if (!Get(header_.e_phoff + i * sizeof segment, &segment)) return Damaged("it cannot be read");
      if (segment.p_type != PT_LOAD && segment.p_type != PT_DYNAMIC) continue;
      if (!Inside(segment.p_offset, segment.p_filesz)) {
        return segment.p_offset > kMaxFile || segment.p_filesz > kMaxFile
                   ? Damaged("a segment lies nowhere")
                   : Truncated(segment.p_offset + segment.p_filesz);
      }
      if (segment.p_type == PT_LOAD) {
        if (loads_.size() >= kMaxSegments) return Damaged("it has too many segments");
        loads_.push_back(segment);
      } else {
        dynamic_ = segment;
      }
    }
    if (dynamic_.p_filesz == 0) {
      return Fail("it is not a shared library (it has no dynamic section)", kNotOurs);
    }
    return true;
  }

  // Where `size` bytes at a virtual address lie in the file.
  bool Locate(uint64_t address, uint64_t size, uint64_t* offset) const {
    for (const Elf64_Phdr& load : loads_) {
      if (address < load.p_vaddr || address - load.p_vaddr > load.p_filesz) continue;
      const uint64_t into = address - load.p_vaddr;
      if (size > load.p_filesz - into) continue;
      *offset = load.p_offset + into;
      return true;
    }
    return false;
  }

  bool Text(uint64_t index, std::string* out) const {
    if (index >= strings_.size()) return false;
    const std::string_view rest =
        std::string_view(strings_.data(), strings_.size()).substr(index, kMaxName);
    const size_t end = rest.find('\0');
    if (end == std::string_view::npos) return false;
    *out = std::string(rest.substr(0, end));
    return true;
  }

  bool Dynamic() {
    uint64_t strings = 0, strings_size = 0;
    std::vector<uint64_t> needed, search;
    std::vector<Elf64_Dyn> entries;
    if (!GetAll(dynamic_.p_offset, dynamic_.p_filesz / sizeof(Elf64_Dyn), &entries)) {
      return Damaged("its dynamic section cannot be read");
    }
    for (const Elf64_Dyn& entry : entries) {
      if (entry.d_tag == DT_NULL) break;
      const uint64_t value = entry.d_un.d_val;
      switch (entry.d_tag) {
        case DT_NEEDED:
          needed.push_back(value);
          break;
        case DT_RPATH:
        case DT_RUNPATH:
          search.push_back(value);
          break;
        case DT_STRTAB:
          strings = value;
          break;
        case DT_STRSZ:
          strings_size = value;
          break;
        case DT_SYMTAB:
          symbols_ = value;
          break;
        case DT_SYMENT:
          if (value != sizeof(Elf64_Sym)) return Damaged("its symbols have a wrong size");
          break;
        case DT_HASH:
          hash_ = value;
          break;
        case DT_GNU_HASH:
          gnu_hash_ = value;
          break;
        default:
          break;
      }
      if (needed.size() > kMaxListed || search.size() > kMaxListed) {
        return Damaged("its dynamic section has no end");
      }
    }
    uint64_t offset = 0;
    if (strings == 0 || symbols_ == 0 || !Locate(strings, strings_size, &offset)) {
      return Damaged("its dynamic section names no strings or symbols");
    }
    if (!GetAll(offset, strings_size, &strings_)) return Damaged("its strings cannot be read");
    for (uint64_t index : needed) {
      std::string name;
      if (!Text(index, &name)) return Damaged("the name of a needed library lies nowhere");
      facts_->needed.push_back(std::move(name));
    }
    for (uint64_t index : search) {
      std::string list;
      if (!Text(index, &list)) return Damaged("its RUNPATH lies nowhere");
      for (size_t begin = 0; begin <= list.size();) {
        const size_t end = std::min(list.find(':', begin), list.size());
        if (facts_->search.size() >= kMaxListed) return Damaged("its RUNPATH has no end");
        if (end > begin) facts_->search.push_back(list.substr(begin, end - begin));
        begin = end + 1;
      }
    }
    return true;
  }

  // How many symbols there are: only the hash tables, which the loader looks names up in, say so.
  bool CountSymbols(uint64_t* count) {
    uint64_t at = 0;
    *count = 0;
    if (gnu_hash_ != 0) {
      uint32_t head[4];  // buckets, first hashed symbol, words of the Bloom filter, shift
      if (!Locate(gnu_hash_, sizeof head, &at) || !Get(at, &head)) return false;
      const uint64_t buckets = gnu_hash_ + sizeof head + uint64_t{head[2]} * 8;
      std::vector<uint32_t> firsts;  // of each chain
      if (!Locate(buckets, uint64_t{head[0]} * 4, &at) || !GetAll(at, head[0], &firsts)) {
        return false;
      }
      uint64_t last = 0;
      for (uint32_t first : firsts) last = std::max<uint64_t>(last, first);
      if (last < head[1] || last == 0) return true;  // nothing is exported
      // The last chain ends with the last symbol: there the lowest bit is set.
      const uint64_t chains = buckets + uint64_t{head[0]} * 4;
      for (uint32_t chain = 0; (chain & 1) == 0; ++last) {
        if (last > kMaxSymbols || !Locate(chains + (last - head[1]) * 4, 4, &at) ||
            !Get(at, &chain)) {
          return false;
        }
      }
      *count = last;
      return true;
    }
    uint32_t head[2];  // buckets, symbols
    if (hash_ == 0 || !Locate(hash_, sizeof head, &at) || !Get(at, &head)) return false;
    *count = head[1];
    return *count <= kMaxSymbols;
  }

  bool Symbols() {
    uint64_t count = 0, at = 0;
    if (!CountSymbols(&count)) return Damaged("its table of symbols has no end");
    std::vector<Elf64_Sym> symbols;
    if (!Locate(symbols_, count * sizeof(Elf64_Sym), &at) || !GetAll(at, count, &symbols)) {
      return Damaged("its symbols lie nowhere");
    }
    for (const Elf64_Sym& symbol : symbols) {
      const unsigned bind = ELF64_ST_BIND(symbol.st_info);
      const unsigned visibility = ELF64_ST_VISIBILITY(symbol.st_other);
      // An absolute symbol is the name of a version in the linker's script.
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS || bind == STB_LOCAL ||
          visibility == STV_HIDDEN || visibility == STV_INTERNAL) {
        continue;
      }
      std::string name;
      if (!Text(symbol.st_name, &name)) return Damaged("the name of a symbol lies nowhere");
      if (IsLinkers(name)) continue;
      if (name == "engine_plugin_v1") ReadManifest(symbol);
      if (facts_->exports.size() < kMaxListed) facts_->exports.push_back(std::move(name));
    }
    return true;
  }

  void ReadManifest(const Elf64_Sym& symbol) {
    facts_->has_manifest = true;
    uint64_t at = 0;
    constexpr uint64_t kNumbers = offsetof(engine_plugin, torch_target);
    StaticManifest m;
    if (symbol.st_size < kNumbers || !Locate(symbol.st_value, kNumbers, &at)) return;
    const bool read = Get(at + offsetof(engine_plugin, struct_size), &m.struct_size) &&
                      Get(at + offsetof(engine_plugin, magic), &m.magic) &&
                      Get(at + offsetof(engine_plugin, abi_major), &m.abi_major) &&
                      Get(at + offsetof(engine_plugin, abi_built), &m.abi_built) &&
                      Get(at + offsetof(engine_plugin, abi_min), &m.abi_min) &&
                      Get(at + offsetof(engine_plugin, tier), &m.tier);
    if (!read) return;
    // All zero: filled in by a constructor.
    if (m.struct_size != 0 || m.magic != 0) facts_->manifest = m;
  }

  const Source& source_;
  ElfFacts* facts_;
  ElfProblem* problem_;
  Elf64_Ehdr header_ = {};
  Elf64_Phdr dynamic_ = {};
  std::vector<Elf64_Phdr> loads_;
  std::vector<char> strings_;
  uint64_t symbols_ = 0, hash_ = 0, gnu_hash_ = 0;  // virtual addresses; 0: not there
};

std::string SystemWords(int error) { return std::strerror(error); }

}  // namespace

bool ParseElf(std::string_view bytes, ElfFacts* facts, ElfProblem* problem) {
  *facts = ElfFacts();
  *problem = ElfProblem();
  const Source source(bytes);
  return Parser(source, facts, problem).Parse();
}

bool ReadElf(const std::string& path, ElfFacts* facts, ElfProblem* problem) {
  *facts = ElfFacts();
  *problem = ElfProblem();
  // Without waiting: a pipe would never be opened.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    problem->because = "it cannot be read: " + SystemWords(error);
    problem->fix = error == EACCES
                       ? "allow it to be read: chmod a+r on the file, and a+x on the folders above"
                       : "see that the file is there, and on a disk that works";
    return false;
  }
  struct stat info = {};
  bool good = false;
  if (fstat(fd, &info) != 0) {
    problem->because = "it cannot be read: " + SystemWords(errno);
    problem->fix = "see that the file is there, and on a disk that works";
  } else if (!S_ISREG(info.st_mode)) {
    problem->because =
        S_ISDIR(info.st_mode) ? "it is a folder and not a file" : "it is no regular file";
    problem->fix = "take it off the search path, or give it another name";
  } else {
    const Source source(fd, static_cast<uint64_t>(info.st_size));
    good = Parser(source, facts, problem).Parse();
  }
  close(fd);
  return good;
}

}  // namespace engine::abi
